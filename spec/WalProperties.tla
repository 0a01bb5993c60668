-------------------------------------------------- MODULE WalProperties --------------------------------------------------
(* What must hold in every state of Wal, what must come to pass, and which states must be reached. *)
EXTENDS Wal

-----------------------------------------------------------------------------------------------------------------------------
(* Invariants *)

Recovering == life.phase \notin {"up", "down", "corrupt"}
\* How far the log reaches for a reader: what was flushed, or what a recovery has accepted.
Accepted == IF Up THEN wm.flu ELSE IF Recovering THEN life.sv.end ELSE 0
Pcs == {"idle", "claimed", "copied", "published", "lead", "wait", "flush", "taken", "sync", "handon", "acked"}
Locs == Files \X (1 .. SegSize + 1)

TypeOK ==
    /\ \A w \in Writers : thr[w].pc \in Pcs /\ thr[w].pos \in 0 .. NPos /\ thr[w].n \in Sizes \cup {0}
    /\ \A p \in {wm.res, wm.pub, wm.flu, wm.dur, ghost.dur, gc.upto, gc.marked} : p \in 0 .. NPos
    /\ \A k \in DOMAIN buf.links : buf.links[k] \in 0 .. RingSize
    /\ gc.led \in Writers \cup {NoOne, "wanted"} /\ gc.deck \in Writers \cup {NoOne}
    /\ gc.next \cup gc.batch \subseteq Writers /\ gc.next \cap gc.batch = {} /\ gc.snap \subseteq Locs /\ files.dirty \subseteq Locs
    /\ \A f \in Files : /\ files.seg[f].idx \in (0 .. MaxSegs - 1) \cup {NoIdx}
                        /\ files.seg[f].st \in {"Queued", "Active", "Writing"}
    /\ ctl.dirty \subseteq {0, 1} /\ life.poison \in BOOLEAN
    /\ ctl.work \in {"none", "prepare", "truncate", "free", "again", "begin", "final"}
    /\ life.phase \in {"up", "down", "begin", "rewrite", "sync", "mark", "marksync", "clear", "final", "corrupt"}

\* One segment holds the reservation's position. Those before it are Writing, those behind it Queued.
OnlyOneActive ==
    /\ Cardinality({f \in Files : files.seg[f].st = "Active"}) <= 1
    /\ \A f, g \in Files : f # g /\ files.seg[f].idx = files.seg[g].idx => files.seg[f].idx = NoIdx
    /\ \A f \in Files : files.seg[f].st = "Active" => Up /\ files.seg[f].idx = wm.res \div SegSize

\* The writers in a segment: none in a Queued one, and together they hold just the cells that are claimed and not published.
Covered(p) == \E q \in wm.pub .. Min(p, wm.flu + RingSize - 1) : q + buf.links[q % RingSize] > p
ValidWriterCounts ==
    Works =>
      /\ \A w \in Writers : UnderWay(w) => \A i \in thr[w].pos \div SegSize .. (End(w) - 1) \div SegSize :
            \E f \in Files : files.seg[f].idx = i /\ files.seg[f].st # "Queued"
      /\ \A p \in wm.pub .. wm.res - 1 :
            Cardinality({w \in Writers : UnderWay(w) /\ p \in thr[w].pos .. End(w) - 1}) = IF Covered(p) THEN 0 ELSE 1

\* A writer copies only into free ring space, and what was copied stays as it is until it is flushed.
ValidWritePositions ==
    Up => \A w \in Writers : Pc(w) = "copied" =>
            /\ thr[w].pos >= wm.pub /\ End(w) <= wm.flu + RingSize
            /\ \A p \in thr[w].pos .. End(w) - 1 : buf.ring[p % RingSize] = ghost.log[p]

\* No position is handed out twice, and none that is behind the stream already.
MonotonicLSNs ==
    \A v, w \in Writers : UnderWay(w) =>
        /\ thr[w].pos >= wm.pub /\ End(w) <= wm.res
        /\ v # w /\ UnderWay(v) => End(v) <= thr[w].pos \/ End(w) <= thr[v].pos

\* Each record begins where the one before it ends; the stream goes on behind all that was ever durable, recoveries included.
ValidLSNProgression ==
    Up => /\ wm.res >= ghost.dur
          /\ \A p \in DOMAIN ghost.log : LET c == ghost.log[p] IN
                IF p >= wm.res THEN c = Nil ELSE p >= HeadPos => c # Nil /\ LsnOf(c) + c[6] = p

WatermarkOrder ==
    /\ wm.dur <= wm.flu /\ wm.flu <= wm.pub /\ wm.pub <= wm.res
    /\ buf.run # Nil => buf.run[1] = wm.flu /\ buf.run[2] = wm.pub

\* What was once durable is on the disk in every state, until its segment is truncated away; and a recovery finds it.
DiskHead == Newest(ctl.disk).head * SegSize
DurableNeverLost ==
    /\ \A p \in DiskHead .. ghost.dur - 1 : At(files.disk, p) = ghost.log[p] /\ ghost.log[p] # Nil
    /\ Recovering => life.sv.end >= ghost.dur

\* What was published when a process died is found by the recovery that follows, if the power stays.
PublishedSurvivesKill == Recovering => life.sv.end >= ghost.kept

\* What a reader can reach is made of whole records without a gap.
NoRecordAfterHole ==
    \A p \in HeadPos .. Accepted - 1 : LET c == At(files.cache, p) IN
        /\ c # Nil
        /\ LsnOf(c) >= HeadPos => LsnOf(c) + c[6] = p /\ WholeAt(files.cache, LsnOf(c), Accepted)

\* What a recovery accepts is what was appended, and not cut by an earlier recovery.
NoResurrection == Recovering => \A p \in HeadPos .. Accepted - 1 : At(files.cache, p) = ghost.log[p]

\* A commit that returned success: its record is on the disk.
AckedImpliesDurable ==
    \A w \in Writers : Pc(w) = "acked" =>
        /\ End(w) <= wm.dur
        /\ \A p \in Max(thr[w].pos, DiskHead) .. End(w) - 1 : At(files.disk, p) = ghost.log[p]

\* All that was ever claimed lies in segments that are there and that a durable control slot names.
SpaceBeforeAccept ==
    Up => /\ wm.res <= MaxOf({ctl.disk[0].end, ctl.disk[1].end}) * SegSize
          /\ \A p \in HeadPos .. wm.res - 1 : Named(p \div SegSize)

\* No crash and no failure that is within the assumptions leaves a log that recovery refuses.
NoFalseCorrupt == life.phase # "corrupt"

-----------------------------------------------------------------------------------------------------------------------------
(* Liveness. To end with an error, or with the process, is to end. *)

\* Of one writer: the actions treat all alike, and so does the fairness, so what holds of one holds of each.
One == CHOOSE w \in Writers : TRUE
WriteCompletion == UnderWay(One) ~> ~UnderWay(One)
SyncCompletion ==
    Pc(One) \in {"lead", "wait", "flush", "taken", "sync", "handon"} ~> Pc(One) \in {"acked", "idle"}

-----------------------------------------------------------------------------------------------------------------------------
(* States that must be reached, or the model proves nothing. TLC is given the negations and must find each violated. *)

Perms == Permutations(Writers)
NotRecoveryCrashed == ~(Up /\ ctl.mem.epoch >= 2 /\ \A p \in DOMAIN ghost.log : ghost.log[p] # Nil => EpochOf(ghost.log[p]) # 1)
NotPoisonRecovered == ~(Works /\ used.fails > 0 /\ used.crashes > 0 /\ wm.res > wm.dur)
NotCleanYetLost == ~(life.phase = "begin" /\ files.dirty = {} /\ files.cache # files.disk /\ life.sv.end > life.sv.dur)
\* A file that was made of a freed one and holds some of its old cells.
Recycled(f) == files.seg[f].idx # NoIdx /\ \E k \in 1 .. SegSize :
                   LET c == files.cache[f][k] IN c # Nil /\ LsnOf(c) + c[6] # files.seg[f].idx * SegSize + k - 1
NotLeftBehind == ~(life.phase = "down" /\ ghost.kept > SurveyOf(files.cache).end)
NotRecycled == ~(\E f \in Files : files.seg[f].st = "Active" /\ Recycled(f))
NotRecycledRecovered == ~(life.phase = "mark" /\ \E f \in Files : Recycled(f))
NotTornSlot == ~(Recovering /\ Torn \in {ctl.cache[0], ctl.cache[1]})
NotOnDeckFlush == ~(\E v, w \in Writers : Pc(v) = "sync" /\ Pc(w) = "wait" /\ gc.deck = w /\ wm.flu >= End(w) /\ gc.upto < End(w))
NotRingWrapped == ~(\E w \in Writers : Pc(w) = "copied" /\ thr[w].n > 1 /\ thr[w].pos % RingSize > (End(w) - 1) % RingSize)
NotShutOut == ~(Up /\ \E p \in wm.res .. NPos - 1 : WholeAt(files.cache, p, NPos))
NotHoleOnDisk == ~(Recovering /\ \E p \in life.sv.end + 1 .. NPos - 1 :
                     WholeAt(files.cache, p, NPos) /\ EpochOf(At(files.cache, p)) = life.sv.epoch)
NotLedByHandOn == ~(\E v, w \in Writers : v # w /\ Pc(v) = "acked" /\ Pc(w) = "lead" /\ gc.marked < wm.dur)
NotSpanning == ~(Up /\ \E p \in 1 .. wm.dur - 1 : p % SegSize = 0 /\ ghost.log[p] # Nil /\ ghost.log[p][6] > 0)
NotFullDisk == ~(Up /\ wm.res = Limit /\ ctl.mem.end < MaxSegs /\ \A f \in Files : files.seg[f].idx # NoIdx)
==========================================================================================================================
