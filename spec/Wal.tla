------------------------------------------------------- MODULE Wal -------------------------------------------------------
(* The protocol of libwal, from a reservation to a recovery. README.md says which function each action stands for.        *)
(*                                                                                                                        *)
(* The unit is the cell: a position of the stream. A record is one cell or more; a commit marker and an epoch record are  *)
(* one. A file holds SegSize cells and an entry cell. What the operating system shows (`cache`) and what is on the disk   *)
(* (`disk`) are two things. A cell that was written and not yet synced is dirty: a loss of power keeps it or not, each    *)
(* cell for itself. A sync that fails leaves cells clean that are on no disk.                                             *)
EXTENDS Naturals, Sequences, FiniteSets, TLC

CONSTANTS
    Writers,     \* threads that append and commit
    NoOne,       \* no thread
    Sizes,       \* sizes of data records, in cells; one larger than RingSize is written directly
    MaxPos,      \* data records end at or below this position
    SegSize,     \* cells in a segment
    MaxSegs,     \* segments 0 .. MaxSegs - 1 may be made
    NFiles,      \* files that the disk has space for
    RingSize,    \* cells in the ring
    MaxCrashes, MaxFails, MaxTruncs,
    Background,  \* TRUE: flushes also come unasked (background thread, a filled ring, an explicit flush)
    Fault        \* "none", or the name of the one action that is to do wrong

VARIABLES
    thr,    \* thread -> [pc, pos, n]: what it does, and its claim
    wm,     \* the watermarks: [res, pub, flu, dur]
    buf,    \* [ring, links, run]: memory; run is what the flusher has walked and not yet written
    gc,     \* group commit: [led, next, batch, deck, seg, upto, snap, marked]
    ctl,    \* control slots: [mem, cache, disk, dirty, work]
    files,  \* [seg, cache, disk, dirty]
    life,   \* [phase, epoch, poison, sv]: recovering or up; what the survey found
    ghost,  \* what ought to be: [log, dur, kept]; no action of the protocol looks at it
    used    \* [crashes, fails, truncs]: how much has gone wrong so far

vars == <<thr, wm, buf, gc, ctl, files, life, ghost, used>>

Nil == <<>>
NoIdx == 99
Files == 1 .. NFiles
NPos == SegSize * MaxSegs
Min(a, b) == IF a < b THEN a ELSE b
Max(a, b) == IF a > b THEN a ELSE b
MaxOf(S) == CHOOSE x \in S : \A y \in S : y <= x
MinOf(S) == CHOOSE x \in S : \A y \in S : x <= y

-----------------------------------------------------------------------------------------------------------------------------
(* Cells, files, slots *)

\* Cell number k of the record at lsn. `dur` is the claim of durability that markers carry. Equality of a cell with what is
\* expected stands for the checksum: it binds a record to its position, its epoch and its bytes.
Cell(lsn, n, epoch, kind, dur, k) == <<lsn, n, epoch, kind, dur, k>>
LsnOf(c) == c[1]
SizeOf(c) == c[2]
EpochOf(c) == c[3]
KindOf(c) == c[4]
DurOf(c) == c[5]
\* An entry cell: where the first record of the segment begins, and in which epoch.
EntryCell(first, epoch, dur) == Cell(first, 0, epoch, "entry", dur, 0)

FileOf(i) == CHOOSE f \in Files : files.seg[f].idx = i
Named(i) == \E f \in Files : files.seg[f].idx = i
Loc(p) == <<FileOf(p \div SegSize), (p % SegSize) + 1>>
EntryLoc(i) == <<FileOf(i), SegSize + 1>>
At(img, p) == IF Named(p \div SegSize) THEN img[FileOf(p \div SegSize)][(p % SegSize) + 1] ELSE Nil
EntryAt(img, i) == img[FileOf(i)][SegSize + 1]
Apply(img, w) == [f \in Files |-> [k \in 1 .. SegSize + 1 |-> IF <<f, k>> \in DOMAIN w THEN w[<<f, k>>] ELSE img[f][k]]]

\* What the disk may hold of `cells` that were written and not synced: each is old, new, or torn, which is nothing.
Partly(cells, cache) ==
    LET new(l) == cache[l[1]][l[2]]
        overwritten == {l \in cells : files.disk[l[1]][l[2]] \notin {Nil, new(l)}}
    IN {Apply(files.disk, [l \in kept \cup torn |-> IF l \in torn THEN Nil ELSE new(l)]) :
            kept \in SUBSET cells, torn \in SUBSET overwritten}
Synced(cells) == Apply(files.disk, [l \in cells |-> files.cache[l[1]][l[2]]])

\* What one write of the positions from .. to - 1 puts into the files: the cells, and where it enters a segment at its
\* beginning, the entry in front of them. `cell` and `entry` say what.
Writes(from, to, cell(_), entry(_)) ==
    LET data == {Loc(p) : p \in from .. to - 1}
        bases == {i \in 0 .. MaxSegs - 1 : i * SegSize \in from .. to - 1}
    IN [l \in data \cup {EntryLoc(i) : i \in bases} |->
            IF l \in data THEN cell(files.seg[l[1]].idx * SegSize + l[2] - 1) ELSE entry(files.seg[l[1]].idx)]

\* A control slot. They are written alternately, so the one that is not being written is whole.
Slot(seq, head, end, dur, epoch) == [seq |-> seq, head |-> head, end |-> end, dur |-> dur, epoch |-> epoch]
Torn == Slot(0, 0, 0, 0, 0)
Newest(slots) == IF slots[0].seq > slots[1].seq THEN slots[0] ELSE slots[1]
HeadPos == ctl.mem.head * SegSize
\* The end of the prepared space, less a cell for a last marker.
Limit == ctl.mem.end * SegSize - 1

-----------------------------------------------------------------------------------------------------------------------------
Idle == [w \in Writers |-> [pc |-> "idle", pos |-> 0, n |-> 0]]
Empty == [ring |-> [k \in 0 .. RingSize - 1 |-> Nil], links |-> [k \in 0 .. RingSize - 1 |-> 0], run |-> Nil]
NoGroup(at) == [led |-> NoOne, next |-> {}, batch |-> {}, deck |-> NoOne, seg |-> 0, upto |-> 0, snap |-> {}, marked |-> at]
Blank == [f \in Files |-> [k \in 1 .. SegSize + 1 |-> Nil]]
NoSurvey == [end |-> 0, epoch |-> 0, dur |-> 0, first |-> 0, start |-> 0, corrupt |-> FALSE]

\* A log that was just created: segment 0 is there and empty.
Init ==
    /\ thr = Idle
    /\ wm = [res |-> 0, pub |-> 0, flu |-> 0, dur |-> 0]
    /\ buf = Empty
    /\ gc = NoGroup(0)
    /\ LET slots == [s \in {0, 1} |-> IF s = 0 THEN Slot(2, 0, 1, 0, 0) ELSE Slot(1, 0, 0, 0, 0)]
       IN ctl = [mem |-> slots[0], cache |-> slots, disk |-> slots, dirty |-> {}, work |-> "none"]
    /\ files = [seg |-> [f \in Files |-> IF f = 1 THEN [idx |-> 0, st |-> "Active"] ELSE [idx |-> NoIdx, st |-> "Queued"]],
                cache |-> Blank, disk |-> Blank, dirty |-> {}]
    /\ life = [phase |-> "up", epoch |-> 0, poison |-> FALSE, sv |-> NoSurvey]
    /\ ghost = [log |-> [p \in 0 .. NPos - 1 |-> Nil], dur |-> 0, kept |-> 0]
    /\ used = [crashes |-> 0, fails |-> 0, truncs |-> 0]

Up == life.phase = "up"
Works == Up /\ ~life.poison
End(w) == thr[w].pos + thr[w].n
Pc(w) == thr[w].pc
Goto(w, pc) == thr' = [thr EXCEPT ![w].pc = pc]
UnderWay(w) == Pc(w) \in {"claimed", "copied"}
Record(p, n) == [k \in 0 .. n - 1 |-> Cell(p, n, life.epoch, "data", 0, k)]
Marker(p, kind, epoch, dur) == Cell(p, 1, epoch, kind, dur, 0)

\* The segment that holds `res` becomes Active (early activation: it was prepared, so this is an index step), those before
\* it are Writing until they are freed, those behind it are Queued: prepared, or spare.
Activated(seg, res) ==
    [f \in Files |->
        LET i == seg[f].idx IN
        [seg[f] EXCEPT !.st = IF i = NoIdx \/ i > res \div SegSize THEN "Queued"
                              ELSE IF i = res \div SegSize THEN "Active" ELSE "Writing"]]

-----------------------------------------------------------------------------------------------------------------------------
(* RESERVE, COPY, PUBLISH *)

\* One addition. The claim stands only where the space for it is prepared; a refusal comes before the order.
Claim(w, n) ==
    /\ Works /\ Pc(w) = "idle"
    /\ \E p \in {wm.res} \cup (IF Fault = "lost-update" THEN {thr[v].pos : v \in {v \in Writers : UnderWay(v)}} ELSE {}) :
        /\ p + n <= MaxPos
        /\ p + n <= Limit \/ Fault = "no-limit"
        /\ thr' = [thr EXCEPT ![w] = [pc |-> "claimed", pos |-> p, n |-> n]]
        /\ wm' = [wm EXCEPT !.res = Max(@, p + n)]
        /\ files' = [files EXCEPT !.seg = Activated(@, Max(wm.res, p + n))]
        /\ ghost' = [ghost EXCEPT !.log = [q \in DOMAIN @ |-> IF q \in p .. p + n - 1 THEN Record(p, n)[q - p] ELSE @[q]]]
        /\ buf' = IF Fault = "publish-early" THEN [buf EXCEPT !.links[p % RingSize] = n] ELSE buf
    /\ UNCHANGED <<gc, ctl, life, used>>

Room(w) == End(w) <= wm.flu + RingSize

\* Only into ring space that is free: what stood there was flushed.
Copy(w) ==
    /\ Up /\ Pc(w) = "claimed" /\ thr[w].n <= RingSize
    /\ Room(w) \/ Fault = "no-room-wait"
    /\ Goto(w, "copied")
    /\ buf' = [buf EXCEPT !.ring = [k \in DOMAIN @ |->
                  IF \E q \in thr[w].pos .. End(w) - 1 : q % RingSize = k
                  THEN LET q == CHOOSE q \in thr[w].pos .. End(w) - 1 : q % RingSize = k
                       IN Record(thr[w].pos, thr[w].n)[q - thr[w].pos]
                  ELSE @[k]]]
    /\ UNCHANGED <<wm, gc, ctl, files, life, ghost, used>>

\* One store of the size into the record's own slot. Nobody is told.
Publish(w) ==
    /\ Up /\ Pc(w) = "copied"
    /\ Goto(w, "published")
    /\ buf' = [buf EXCEPT !.links[thr[w].pos % RingSize] =
                  CASE Fault = "publish-early" -> @ [] Fault = "link-end" -> End(w) [] OTHER -> thr[w].n]
    /\ UNCHANGED <<wm, gc, ctl, files, life, ghost, used>>

\* The append returns, or a commit does.
Return(w) ==
    /\ Up /\ Pc(w) \in {"published", "acked"}
    /\ thr' = [thr EXCEPT ![w] = Idle[w]]
    /\ UNCHANGED <<wm, buf, gc, ctl, files, life, ghost, used>>

\* Who waits for room or for a flush on a poisoned log gets the first failure; a leader for all who wait with it.
FailOut(w) ==
    /\ Up /\ life.poison
    /\ \/ Pc(w) = "claimed" /\ (~Room(w) \/ thr[w].n > RingSize) /\ thr' = [thr EXCEPT ![w] = Idle[w]] /\ UNCHANGED gc
       \/ Pc(w) \in {"lead", "flush"} /\ Goto(w, "handon") /\ gc' = [gc EXCEPT !.batch = gc.next, !.next = {}, !.deck = NoOne]
       \/ Pc(w) = "taken" /\ Goto(w, "handon") /\ UNCHANGED gc
    /\ UNCHANGED <<wm, buf, ctl, files, life, ghost, used>>

-----------------------------------------------------------------------------------------------------------------------------
(* FLUSH *)

\* The end of the run that the links give from p on: the contiguous prefix, not beyond the first record that reaches the
\* next segment.
RECURSIVE Follow(_, _)
Follow(p, boundary) ==
    LET link == buf.links[p % RingSize] IN
    IF p >= boundary \/ p >= wm.flu + RingSize \/ link = 0 THEN p ELSE Follow(p + link, boundary)

\* Who flushes: a writer that waits for room, the leader, the thread on deck.
NeedsFlush(w) ==
    \/ Pc(w) = "claimed" /\ (~Room(w) \/ thr[w].n > RingSize) /\ Fault # "no-help"
    \/ Pc(w) \in {"flush", "taken"}
    \/ Pc(w) = "wait" /\ gc.deck = w /\ wm.flu < End(w)

\* Takes the flusher's lock, moves `published` over the run and clears its links.
FlushWalk ==
    /\ Works /\ buf.run = Nil
    /\ Background \/ \E w \in Writers : NeedsFlush(w)
    /\ LET from == wm.pub
           walked == Follow(from, ((from \div SegSize) + 1) * SegSize)
           to == IF Fault = "flush-hole" THEN Min(wm.res, ((from \div SegSize) + 1) * SegSize) ELSE walked
       IN /\ to > from
          /\ wm' = [wm EXCEPT !.pub = to]
          /\ buf' = [buf EXCEPT !.run = <<from, to, "ring">>,
                                !.links = [k \in DOMAIN @ |-> IF \E q \in from .. to - 1 : q % RingSize = k THEN 0 ELSE @[k]]]
    /\ UNCHANGED <<thr, gc, ctl, files, life, ghost, used>>

\* A record longer than the ring: once all before it is flushed, from the caller's buffer.
WriteDirect(w) ==
    /\ Works /\ Pc(w) = "claimed" /\ thr[w].n > RingSize
    /\ wm.flu = thr[w].pos /\ buf.run = Nil
    /\ Goto(w, "published")
    /\ wm' = [wm EXCEPT !.pub = End(w)]
    /\ buf' = [buf EXCEPT !.run = <<thr[w].pos, End(w), "direct">>]
    /\ UNCHANGED <<gc, ctl, files, life, ghost, used>>

\* What writing the run up to `to` puts into the files.
RunWrites(to) ==
    LET from == buf.run[1]
        cell(p) == IF buf.run[3] = "ring" THEN buf.ring[p % RingSize] ELSE ghost.log[p]
        entry(i) == EntryCell(IF i * SegSize = from THEN from ELSE buf.run[2], life.epoch, wm.dur)
    IN Writes(from, to, cell, entry)

\* The run is with the operating system: `flushed` moves, and the ring space is free.
FlushWrite ==
    /\ Works /\ buf.run # Nil
    /\ LET w == RunWrites(buf.run[2])
       IN files' = [files EXCEPT !.cache = Apply(@, w), !.dirty = @ \cup DOMAIN w]
    /\ wm' = [wm EXCEPT !.flu = buf.run[2]]
    /\ buf' = [buf EXCEPT !.run = Nil]
    /\ UNCHANGED <<thr, gc, ctl, life, ghost, used>>

\* The write fails after some of it. Nothing more is written.
FlushFail ==
    /\ Works /\ buf.run # Nil /\ used.fails < MaxFails
    /\ \E to \in buf.run[1] .. buf.run[2] - 1 :
        LET w == RunWrites(to)
        IN files' = [files EXCEPT !.cache = Apply(@, w), !.dirty = @ \cup DOMAIN w]
    /\ life' = [life EXCEPT !.poison = TRUE]
    /\ buf' = [buf EXCEPT !.run = Nil]
    /\ used' = [used EXCEPT !.fails = @ + 1]
    /\ UNCHANGED <<thr, wm, gc, ctl, ghost>>

-----------------------------------------------------------------------------------------------------------------------------
(* SYNC *)

\* A thread wants its record durable: nothing to do, or it joins the next batch. It leads if nobody does; else it waits, and
\* is on deck if it is the first while another batch is being synced.
Join(w) ==
    /\ Up /\ Pc(w) = "published"
    /\ IF wm.dur >= End(w) /\ ~life.poison THEN Goto(w, "acked") /\ UNCHANGED gc
       ELSE IF life.poison THEN thr' = [thr EXCEPT ![w] = Idle[w]] /\ UNCHANGED gc
       ELSE IF gc.led = NoOne THEN Goto(w, "lead") /\ gc' = [gc EXCEPT !.led = w, !.next = @ \cup {w}]
       ELSE /\ Goto(w, "wait")
            /\ gc' = [gc EXCEPT !.next = @ \cup {w}, !.deck = IF gc.next = {} /\ gc.batch # {} THEN w ELSE @]
    /\ UNCHANGED <<wm, buf, ctl, files, life, ghost, used>>

\* One of the next batch becomes its leader, whichever wakes first.
TakeLead(w) ==
    /\ Up /\ Pc(w) = "wait" /\ w \in gc.next /\ gc.led = "wanted"
    /\ Goto(w, "lead")
    /\ gc' = [gc EXCEPT !.led = w]
    /\ UNCHANGED <<wm, buf, ctl, files, life, ghost, used>>

\* The leader leaves a marker with the durable position it knows, where that needs no waiting: evidence for a recovery.
LeaveMarker(w) ==
    /\ Works /\ Pc(w) = "lead"
    /\ Goto(w, "flush")
    /\ IF wm.dur > gc.marked /\ wm.res + 1 <= Min(Limit, wm.flu + RingSize)
       THEN LET c == Marker(wm.res, "mark", life.epoch, wm.dur) IN
            /\ wm' = [wm EXCEPT !.res = @ + 1]
            /\ buf' = [buf EXCEPT !.ring[wm.res % RingSize] = c, !.links[wm.res % RingSize] = 1]
            /\ gc' = [gc EXCEPT !.marked = wm.dur]
            /\ ghost' = [ghost EXCEPT !.log[wm.res] = c]
            /\ files' = [files EXCEPT !.seg = Activated(@, wm.res + 1)]
       ELSE UNCHANGED <<wm, buf, gc, ghost, files>>
    /\ UNCHANGED <<ctl, life, used>>

DirtyIn(i) == {l \in files.dirty : files.seg[l[1]].idx = i}

\* Its own record is flushed: the leader closes the batch. Who comes from now on joins the next one.
TakeBatch(w) ==
    /\ Works /\ Pc(w) = "flush" /\ wm.flu >= End(w)
    /\ Goto(w, "taken")
    /\ gc' = [gc EXCEPT !.batch = gc.next, !.next = {}, !.deck = NoOne]
    /\ UNCHANGED <<wm, buf, ctl, files, life, ghost, used>>

\* The records of the batch are flushed: the leader reads `flushed`, and only then begins to sync. A sync covers what was
\* written before it began (`snap`).
BeginSync(w) ==
    /\ Works /\ Pc(w) = "taken" /\ (Fault = "own-only" \/ \A v \in gc.batch : wm.flu >= End(v))
    /\ Goto(w, "sync")
    /\ LET last == (wm.flu - 1) \div SegSize
           i == IF Fault = "newest-only" THEN last ELSE wm.dur \div SegSize
       IN gc' = [gc EXCEPT !.upto = IF Fault = "durable-reserved" THEN wm.res ELSE wm.flu, !.seg = i, !.snap = DirtyIn(i)]
    /\ UNCHANGED <<wm, buf, ctl, files, life, ghost, used>>

\* The sync of one segment returns. Behind the last one `durable` moves; before it the next segment's turn comes.
EndSync(w) ==
    /\ Up /\ Pc(w) = "sync"
    /\ files' = [files EXCEPT !.disk = Synced(gc.snap), !.dirty = @ \ gc.snap]
    /\ IF gc.seg < (gc.upto - 1) \div SegSize
       THEN /\ gc' = [gc EXCEPT !.seg = @ + 1, !.snap = DirtyIn(gc.seg + 1)]
            /\ UNCHANGED <<thr, wm, ghost>>
       ELSE LET upto == IF Fault = "flushed-after" THEN wm.flu ELSE gc.upto IN
            /\ wm' = [wm EXCEPT !.dur = upto]
            /\ ghost' = [ghost EXCEPT !.dur = Max(@, upto)]
            /\ gc' = [gc EXCEPT !.seg = 0, !.upto = 0, !.snap = {}]
            /\ Goto(w, "handon")
    /\ UNCHANGED <<buf, ctl, life, used>>

\* The sync fails: some of it is on the disk, the rest is not and yet is clean. It is never tried again.
SyncFail(w) ==
    /\ Up /\ Pc(w) = "sync" /\ used.fails < MaxFails
    /\ \E disk \in Partly(gc.snap, files.cache) : files' = [files EXCEPT !.disk = disk, !.dirty = @ \ gc.snap]
    /\ life' = [life EXCEPT !.poison = Fault # "retry-sync"]
    /\ gc' = [gc EXCEPT !.seg = 0, !.upto = 0, !.snap = {}]
    /\ Goto(w, IF Fault = "retry-sync" THEN "taken" ELSE "handon")
    /\ used' = [used EXCEPT !.fails = @ + 1]
    /\ UNCHANGED <<wm, buf, ctl, ghost>>

\* The leader wakes its batch, and the next one as well if that came just too late for it and is durable all the same; else
\* one of that is wanted as the leader. After a failure each member finds that its record is not durable.
HandOn(w) ==
    /\ Up /\ Pc(w) = "handon"
    /\ LET late == \A v \in gc.next : End(v) <= wm.dur
           rest == IF late THEN {} ELSE gc.next
           told == gc.batch \cup (gc.next \ rest) \cup (IF Fault = "wake-all" THEN gc.next ELSE {})
           durable(v) == wm.dur >= End(v) \/ (Fault \in {"wake-all", "own-only"} /\ ~life.poison)
       IN /\ gc' = [gc EXCEPT !.led = IF rest = {} \/ Fault = "no-successor" THEN NoOne ELSE "wanted",
                             !.next = rest \ told, !.batch = {}, !.deck = NoOne]
          /\ thr' = [v \in Writers |-> IF v \notin told THEN thr[v]
                                      ELSE IF durable(v) THEN [thr[v] EXCEPT !.pc = "acked"] ELSE Idle[v]]
    /\ UNCHANGED <<wm, buf, ctl, files, life, ghost, used>>

-----------------------------------------------------------------------------------------------------------------------------
(* ROTATE: segments and control slots *)

\* Puts `slot` into the page cache, over the older of the two; SlotSync makes it durable.
WriteSlot(slot, work) ==
    ctl' = [ctl EXCEPT !.cache[slot.seq % 2] = slot, !.dirty = @ \cup {slot.seq % 2}, !.work = work,
                       !.mem = IF Fault = "offer-early" /\ work = "prepare" THEN slot ELSE @]

Durable == IF Up THEN wm.dur ELSE life.sv.dur
SyncedSlots == [s \in {0, 1} |-> IF s \in ctl.dirty THEN ctl.cache[s] ELSE ctl.disk[s]]
NextSlot(head, end, dur, epoch) == Slot(ctl.mem.seq + 1, head, end, dur, epoch)

\* The next segment: a freed file (its old cells stay) or a new one gets its identity and no entry, is synced and named.
\* Ahead of the stream; or by a recovery that has no room for its epoch record. Where no file is left the disk is full:
\* the append that needed the space is refused, and nothing was claimed.
Prepare ==
    /\ ctl.work = "none" /\ ctl.mem.end < MaxSegs
    /\ \/ Works /\ ctl.mem.end < (wm.res \div SegSize) + 2
       \/ life.phase = "mark" /\ life.sv.end + 1 > ctl.mem.end * SegSize
    /\ LET free == {f \in Files : files.seg[f].idx = NoIdx}
           f == MinOf(free)
       IN /\ free # {}
          /\ files' = [files EXCEPT !.seg[f] = [idx |-> ctl.mem.end, st |-> "Queued"],
                                    !.cache[f][SegSize + 1] = Nil, !.disk[f][SegSize + 1] = Nil,
                                    !.dirty = {l \in @ : l[1] # f}]
          /\ WriteSlot(NextSlot(ctl.mem.head, ctl.mem.end + 1, Max(ctl.mem.dur, Durable), ctl.mem.epoch), "prepare")
    /\ UNCHANGED <<thr, wm, buf, gc, life, ghost, used>>

\* The segment with the last durable byte is kept, and with it a durable entry, from which a recovery learns the epoch. The
\* slots say so before anything is freed.
Truncate ==
    /\ Works /\ ctl.work = "none" /\ used.truncs < MaxTruncs
    /\ \E i \in ctl.mem.head + 1 .. CASE Fault = "free-undurable" -> Min(wm.res \div SegSize, ctl.mem.end - 1)
                                        [] Fault = "empty-head" -> Min(wm.dur \div SegSize, ctl.mem.end - 1)
                                        [] OTHER -> (Max(wm.dur, 1) - 1) \div SegSize :
        WriteSlot(NextSlot(i, ctl.mem.end, Max(ctl.mem.dur, wm.dur), ctl.mem.epoch), "truncate")
    /\ used' = [used EXCEPT !.truncs = @ + 1]
    /\ UNCHANGED <<thr, wm, buf, gc, files, life, ghost>>

\* Files that are no part of the log are spare from now on.
Freed(head, end) ==
    [f \in Files |-> IF files.seg[f].idx < head \/ (files.seg[f].idx # NoIdx /\ files.seg[f].idx >= end)
                     THEN [idx |-> NoIdx, st |-> "Queued"] ELSE files.seg[f]]

FreeSegments ==
    /\ Works /\ ctl.work = "free"
    /\ files' = [files EXCEPT !.seg = Freed(ctl.mem.head, NoIdx)]
    /\ ctl' = [ctl EXCEPT !.work = "none"]
    /\ UNCHANGED <<thr, wm, buf, gc, life, ghost, used>>

\* With it a recovery begins: an epoch higher than any that another recovery has begun.
BeginSlot(slot, sv) == Slot(slot.seq + 1, slot.head, slot.end, Max(slot.dur, sv.dur), Max(slot.epoch, sv.epoch) + 1)

\* The slot is durable: what it says is in force.
SlotSync ==
    /\ ctl.work \in {"prepare", "truncate", "again", "begin", "final"} /\ ctl.dirty # {} /\ ~life.poison
    /\ LET new == Newest(ctl.cache)
           then(work) == ctl' = [ctl EXCEPT !.mem = new, !.disk = SyncedSlots, !.dirty = {}, !.work = work]
       IN CASE ctl.work = "prepare" ->
                /\ then("none")
                /\ files' = [files EXCEPT !.seg = IF Up THEN Activated(@, wm.res) ELSE @]
                /\ UNCHANGED <<wm, gc, life, ghost>>
            [] ctl.work = "truncate" -> then("free") /\ UNCHANGED <<wm, gc, files, life, ghost>>
            [] ctl.work = "again" ->
                /\ LET slot == BeginSlot(new, life.sv)
                   IN ctl' = [ctl EXCEPT !.disk = SyncedSlots, !.cache[slot.seq % 2] = slot, !.dirty = {slot.seq % 2},
                                         !.work = "begin"]
                /\ UNCHANGED <<wm, gc, files, life, ghost>>
            \* Recovery: left-overs are removed only now, when the slots that say so are surely on the disk.
            [] ctl.work = "begin" ->
                /\ then("none")
                /\ life' = [life EXCEPT !.epoch = new.epoch, !.phase = IF Fault = "mark-first" THEN "mark" ELSE "rewrite"]
                /\ files' = [files EXCEPT !.seg = Freed(new.head, IF Fault = "keep-leftover" THEN NoIdx ELSE new.end)]
                /\ UNCHANGED <<wm, gc, ghost>>
            \* Recovery is done: the watermarks begin where the log ends.
            [] ctl.work = "final" ->
                LET at == IF Fault = "reuse-lsn" THEN life.sv.end ELSE new.dur IN
                /\ then("none")
                /\ life' = [life EXCEPT !.phase = "up", !.sv = NoSurvey]
                /\ wm' = [res |-> at, pub |-> at, flu |-> at, dur |-> at]
                /\ gc' = NoGroup(at)
                /\ files' = [files EXCEPT !.seg = Activated(@, at)]
                /\ ghost' = [ghost EXCEPT !.dur = Max(@, at), !.kept = 0]
    \* A log that is open has a buffer of its own.
    /\ buf' = IF ctl.work = "final" THEN Empty ELSE buf
    /\ UNCHANGED <<thr, used>>

-----------------------------------------------------------------------------------------------------------------------------
(* Crashes *)

\* Memory is gone, but for the cells of the ring if `ring` says so. Positions that no write has reached, from `reach` on, are no
\* part of what can be found again. What is found must reach to `kept`.
Dead(reach, ring, kept) ==
    /\ thr' = Idle
    /\ wm' = [res |-> 0, pub |-> 0, flu |-> 0, dur |-> 0]
    /\ buf' = [Empty EXCEPT !.ring = ring]
    /\ gc' = NoGroup(0)
    /\ life' = [phase |-> "down", epoch |-> 0, poison |-> FALSE, sv |-> NoSurvey]
    /\ ghost' = [ghost EXCEPT !.log = [p \in DOMAIN @ |-> IF p < reach THEN @[p] ELSE Nil], !.kept = kept]
Reach == IF ~Up THEN NPos ELSE IF buf.run # Nil THEN buf.run[2] ELSE IF life.poison THEN wm.pub ELSE wm.flu
\* What was published without a hole; a record that does not go through the ring may be one, and so may a write that failed.
Published ==
    IF life.poison \/ (buf.run # Nil /\ buf.run[3] = "direct") THEN wm.flu ELSE Follow(wm.pub, NPos)
Closed(seg) == [f \in Files |-> [seg[f] EXCEPT !.st = "Queued"]]

\* The process dies, in the middle of a write perhaps, or a poisoned log is closed: what was written stays in the cache, and
\* the ring is there as it was.
Kill ==
    /\ life.phase # "down" /\ used.crashes < MaxCrashes
    /\ \E to \in IF buf.run = Nil THEN {0} ELSE buf.run[1] .. buf.run[2] :
        LET w == IF buf.run = Nil THEN <<>> ELSE RunWrites(to)
        IN files' = [files EXCEPT !.seg = Closed(@), !.cache = Apply(@, w), !.dirty = @ \cup DOMAIN w]
    /\ ctl' = [ctl EXCEPT !.mem = Torn, !.work = "none"]
    /\ used' = [used EXCEPT !.crashes = @ + 1]
    /\ Dead(IF Up THEN Max(Reach, wm.res) ELSE NPos, buf.ring, IF Up THEN Published ELSE ghost.kept)

\* What a slot may be found to hold when its write did not become durable.
Left(s) == IF s \in ctl.dirty /\ ctl.disk[s] # ctl.cache[s]
           THEN {ctl.disk[s], ctl.cache[s], Torn} ELSE {ctl.disk[s]}

\* The power fails: of what was written and not synced each cell survives, or not, or is torn.
PowerLoss ==
    /\ used.crashes < MaxCrashes /\ (life.phase = "down" => files.dirty # {} \/ files.cache # files.disk \/ ctl.cache # ctl.disk)
    /\ LET w == IF buf.run = Nil THEN <<>> ELSE RunWrites(buf.run[2])
           cache == Apply(files.cache, w)
       IN \E disk \in Partly(files.dirty \cup DOMAIN w, cache) :
            files' = [seg |-> Closed(files.seg), cache |-> disk, disk |-> disk, dirty |-> {}]
    /\ \E a \in Left(0), b \in Left(1) :
        LET disk == [s \in {0, 1} |-> IF s = 0 THEN a ELSE b]
        IN ctl' = [mem |-> Torn, cache |-> disk, disk |-> disk, dirty |-> {}, work |-> "none"]
    /\ used' = [used EXCEPT !.crashes = @ + 1]
    /\ Dead(Reach, Empty.ring, 0)

\* The sync of a control slot fails: the slot on the disk is the old one, the new one, or neither. An open log is poisoned;
\* an open that is under way fails.
SlotFail ==
    /\ ctl.dirty # {} /\ ~life.poison /\ life.phase # "down" /\ used.fails < MaxFails
    /\ used' = [used EXCEPT !.fails = @ + 1]
    /\ \E a \in Left(0), b \in Left(1) :
        ctl' = [ctl EXCEPT !.disk = [s \in {0, 1} |-> IF s = 0 THEN a ELSE b], !.dirty = {}, !.work = "none",
                           !.mem = IF Up THEN @ ELSE Torn]
    /\ IF Up THEN /\ life' = [life EXCEPT !.poison = TRUE]
                  /\ UNCHANGED <<thr, wm, buf, gc, files, ghost>>
             ELSE Dead(NPos, buf.ring, ghost.kept) /\ UNCHANGED files

-----------------------------------------------------------------------------------------------------------------------------
(* RECOVER *)

\* Whether a whole record begins at p that passes the checksum of `epoch`. Epoch records only raise it.
EpochFits(c, epoch) == IF KindOf(c) = "epoch" THEN EpochOf(c) > epoch ELSE EpochOf(c) = epoch \/ Fault = "no-epoch"
WholeAt(img, p, limit) ==
    LET c == At(img, p) IN
    /\ c # Nil /\ LsnOf(c) = p /\ c[6] = 0 /\ p + SizeOf(c) <= limit
    /\ \A k \in 0 .. SizeOf(c) - 1 : At(img, p + k) = [c EXCEPT ![6] = k]

\* Walks to the first position that holds no valid record, and collects the claims on the way.
RECURSIVE Walk(_, _, _)
Walk(img, at, limit) ==
    IF at.end < limit /\ WholeAt(img, at.end, limit) /\ EpochFits(At(img, at.end), at.epoch)
    THEN LET c == At(img, at.end) IN
         Walk(img, [at EXCEPT !.end = @ + SizeOf(c),
                              !.epoch = IF KindOf(c) = "epoch" THEN EpochOf(c) ELSE @,
                              !.dur = Max(@, DurOf(c))], limit)
    ELSE at

\* The first record boundary at or behind `base` and the epoch in force there: what an entry says.
Boundary(img, sv, base, limit) ==
    LET S == {p \in base .. limit : Walk(img, [sv EXCEPT !.end = sv.first, !.epoch = sv.start], p).end = p}
        p == MinOf(S \cup {limit})
    IN Walk(img, [sv EXCEPT !.end = sv.first, !.epoch = sv.start], p)

SurveyOf(img) ==
    LET slot == Newest(ctl.cache)
        log == slot.head .. slot.end - 1
        missing == \E i \in log : ~Named(i)
        older == \E f \in Files : files.seg[f].idx # NoIdx /\ files.seg[f].idx >= slot.end /\ img[f][SegSize + 1] # Nil
        limit == slot.end * SegSize
        entered == {i \in log : EntryAt(img, i) # Nil}
        claimed == MaxOf({slot.dur} \cup {DurOf(EntryAt(img, i)) : i \in entered})
        \* An entry is durable with the first byte of its segment. Before that an old one may still stand in its place.
        usable == {i \in entered : /\ LsnOf(EntryAt(img, i)) <= claimed
                                   /\ i = slot.head \/ i * SegSize < claimed \/ Fault \in {"edge-entry", "keep-entry"}}
        \* No entry is durable only in a log of which nothing is.
        start == IF usable = {} THEN <<slot.head * SegSize, 0>>
                 ELSE LET c == EntryAt(img, MaxOf(usable)) IN <<LsnOf(c), EpochOf(c)>>
        walked == Walk(img, [NoSurvey EXCEPT !.end = start[1], !.epoch = start[2], !.dur = claimed,
                                             !.first = start[1], !.start = start[2]], limit)
        behind == {p \in walked.end .. limit - 1 : WholeAt(img, p, limit)}
        skipped == {p + SizeOf(At(img, p)) : p \in behind}
        \* Claims behind the first bad record are believed too, of whatever epoch.
        later == {DurOf(At(img, p)) : p \in behind}
        end == IF Fault = "skip-hole" THEN MaxOf(skipped \cup {walked.end}) ELSE walked.end
    IN IF slot = Torn \/ missing \/ older THEN [NoSurvey EXCEPT !.corrupt = TRUE]
       ELSE [walked EXCEPT !.end = end,
                !.corrupt = MaxOf({walked.dur} \cup later) > end
                            \/ \E i \in log : EntryAt(img, i) = Nil /\ i * SegSize < walked.dur]

RecUnchanged == UNCHANGED <<thr, wm, buf, gc, used>>

\* The end of the whole records that follow one another in the ring from p on, each at its place and of this epoch.
RECURSIVE WalkRing(_, _, _)
WalkRing(p, epoch, limit) ==
    LET c == buf.ring[p % RingSize]
        whole == /\ c # Nil /\ LsnOf(c) = p /\ c[6] = 0 /\ p + SizeOf(c) <= limit
                 /\ \A k \in 0 .. SizeOf(c) - 1 : buf.ring[(p + k) % RingSize] = [c EXCEPT ![6] = k]
    IN IF whole /\ EpochOf(c) = epoch THEN WalkRing(p + SizeOf(c), epoch, limit) ELSE p
\* How far the ring continues what the files hold.
LeftEnd(sv) == IF sv.corrupt \/ Fault = "forget-buffer" THEN sv.end
               ELSE WalkRing(sv.end, sv.epoch, Min(Newest(ctl.cache).end * SegSize, sv.end + RingSize))

\* What the dead process left in the ring is written as it would have written it, before anything is decided.
FlushLeft(sv, to) ==
    /\ LET cell(p) == buf.ring[p % RingSize]
           first(i) == MinOf({p \in i * SegSize .. to : p = to \/ cell(p)[6] = 0})
           entry(i) == EntryCell(first(i), sv.epoch, sv.dur)
           w == Writes(sv.end, to, cell, entry)
       IN files' = [files EXCEPT !.cache = Apply(@, w), !.dirty = @ \cup DOMAIN w]
    /\ UNCHANGED <<ctl, life, ghost>> /\ RecUnchanged

\* Reads only. What it sees is the page cache. Then the slot that was believed, again and in its place: it may be in the
\* page cache only. SlotSync writes the other one when this one is durable.
Survey(sv) ==
    /\ LET slot == Newest(ctl.cache)
       IN IF sv.corrupt THEN life' = [life EXCEPT !.phase = "corrupt", !.sv = sv] /\ UNCHANGED ctl
          ELSE /\ life' = [life EXCEPT !.phase = "begin", !.sv = sv]
               /\ LET new == IF Fault = "slot-once" THEN BeginSlot(slot, sv) ELSE slot
                  IN ctl' = [ctl EXCEPT !.mem = slot, !.cache[new.seq % 2] = new, !.dirty = @ \cup {new.seq % 2},
                                        !.work = IF Fault = "slot-once" THEN "begin" ELSE "again"]
    /\ UNCHANGED <<files, ghost>> /\ RecUnchanged

\* An open looks at the files, and at what is left in the ring behind their end.
Open ==
    /\ life.phase = "down"
    /\ LET sv == SurveyOf(files.cache)
           to == LeftEnd(sv)
       IN IF to > sv.end THEN FlushLeft(sv, to) ELSE Survey(sv)

\* After a sync that failed the cache may show cells that are clean and on no disk. Written again they are dirty again.
Rewrite ==
    /\ life.phase = "rewrite"
    /\ LET sv == life.sv
           cell(p) == At(files.cache, p)
           entry(i) == LET b == Boundary(files.cache, sv, i * SegSize, sv.end) IN EntryCell(b.end, b.epoch, sv.dur)
           w == IF Fault = "no-rewrite" THEN <<>> ELSE Writes(sv.dur, sv.end, cell, entry)
       IN files' = [files EXCEPT !.cache = Apply(@, w), !.dirty = @ \cup DOMAIN w]
    /\ life' = [life EXCEPT !.phase = "sync"]
    /\ UNCHANGED <<ctl, ghost>> /\ RecUnchanged

\* Some of the dirty cells of the segments from .. to - 1 reach the disk; all of them if the sync succeeds. If it fails, so
\* does the open, and the next one begins anew.
RecoverySync(from, to, next) ==
    LET cells == {l \in files.dirty : files.seg[l[1]].idx \in from \div SegSize .. (to - 1) \div SegSize}
        done(disk) == files' = [files EXCEPT !.disk = disk, !.dirty = @ \ cells]
    IN \/ done(Synced(cells)) /\ life' = [life EXCEPT !.phase = next] /\ UNCHANGED <<ctl, ghost>> /\ RecUnchanged
       \/ /\ used.fails < MaxFails
          /\ used' = [used EXCEPT !.fails = @ + 1]
          /\ \E disk \in Partly(cells, files.cache) : done(disk)
          /\ ctl' = [ctl EXCEPT !.mem = Torn]
          /\ Dead(NPos, buf.ring, ghost.kept)

\* Every segment that was written again, not only the newest; before the epoch record, which claims that they are durable.
SyncTail ==
    /\ life.phase = "sync"
    /\ RecoverySync(life.sv.dur, life.sv.end, IF Fault = "mark-first" THEN "clear" ELSE "mark")

\* The epoch record shuts out whatever follows it. Where there is no room for it and no space for a segment, nothing
\* follows either.
WriteEpoch ==
    /\ life.phase = "mark" /\ ctl.work = "none"
    /\ LET sv == life.sv
           room == sv.end + 1 <= ctl.mem.end * SegSize
           full == ctl.mem.end = MaxSegs \/ \A f \in Files : files.seg[f].idx # NoIdx
           c == Marker(sv.end, "epoch", life.epoch, sv.end)
           cell(p) == c
           entry(i) == EntryCell(sv.end, sv.epoch, sv.dur)
           w == Writes(sv.end, sv.end + 1, cell, entry)
       IN /\ room \/ full
          /\ IF room THEN /\ files' = [files EXCEPT !.cache = Apply(@, w), !.dirty = @ \cup DOMAIN w]
                          /\ ghost' = [ghost EXCEPT !.log = [p \in DOMAIN @ |->
                                IF p < sv.end THEN @[p] ELSE IF p = sv.end THEN c ELSE Nil]]
                          /\ life' = [life EXCEPT !.phase = "marksync"]
             ELSE life' = [life EXCEPT !.phase = "clear", !.epoch = sv.epoch] /\ UNCHANGED <<files, ghost>>
    /\ UNCHANGED ctl /\ RecUnchanged

SyncEpoch ==
    /\ life.phase = "marksync"
    /\ RecoverySync(life.sv.end, life.sv.end + 1, IF Fault = "mark-first" THEN "rewrite" ELSE "clear")

\* Where the stream goes on.
Position == IF life.epoch = life.sv.epoch THEN life.sv.end ELSE life.sv.end + 1

\* Entries of segments that a lost tail had entered are cleared and synced. Then the control slot: durable up to here.
Finish ==
    /\ life.phase = "clear"
    /\ LET gone == {EntryLoc(i) : i \in {i \in ctl.mem.head .. ctl.mem.end - 1 :
                        i * SegSize >= Position /\ Fault # "keep-entry"}}
           nil == [l \in gone |-> Nil]
       IN files' = [files EXCEPT !.cache = Apply(@, nil), !.disk = Apply(@, nil), !.dirty = @ \ gone]
    /\ life' = [life EXCEPT !.phase = "final"]
    /\ WriteSlot(NextSlot(ctl.mem.head, ctl.mem.end, Position, ctl.mem.epoch), "final")
    /\ UNCHANGED ghost /\ RecUnchanged

-----------------------------------------------------------------------------------------------------------------------------
Append_(w) == Copy(w) \/ Publish(w) \/ WriteDirect(w) \/ FailOut(w)
Commit(w) == TakeLead(w) \/ LeaveMarker(w) \/ TakeBatch(w) \/ BeginSync(w) \/ EndSync(w) \/ SyncFail(w) \/ HandOn(w)
Recover == Open \/ Rewrite \/ SyncTail \/ WriteEpoch \/ SyncEpoch \/ Finish
Crash == Kill \/ PowerLoss

Next ==
    \/ \E w \in Writers : (\E n \in Sizes : Claim(w, n)) \/ Append_(w) \/ Return(w) \/ Join(w) \/ Commit(w)
    \/ FlushWalk \/ FlushWrite \/ FlushFail
    \/ Prepare \/ Truncate \/ FreeSegments \/ SlotSync \/ SlotFail
    \/ Recover \/ Crash

Spec == Init /\ [][Next]_vars

\* A thread that has begun an append or a commit goes on with it; a run that was walked is written. Nothing is assumed of
\* threads that are idle, and a failure or a crash may come or not.
Fairness ==
    /\ \A w \in Writers : WF_vars(Append_(w)) /\ WF_vars(Commit(w))
    /\ WF_vars(FlushWalk) /\ WF_vars(FlushWrite \/ FlushFail)
LiveSpec == Spec /\ Fairness
==========================================================================================================================
