// The whole of wal.hpp. Takes a directory to work in, which it empties first.

#include <wal.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <fstream>
#include <mutex>
#include <thread>

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#if __cplusplus >= 202002L
#include <ranges>
#include <span>
static_assert(std::ranges::input_range<wal::Records>);
static_assert(std::ranges::contiguous_range<wal::Bytes>);
#endif

#include "check.hpp"

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using wal::Code;
using wal::Log;
using wal::Lsn;

static_assert(!std::is_copy_constructible_v<Log> && std::is_nothrow_move_constructible_v<Log>);
static_assert(!std::is_copy_constructible_v<wal::Records> && std::is_nothrow_move_assignable_v<wal::Records>);
static_assert(!std::is_copy_constructible_v<wal::OwnedRecord> && std::is_nothrow_move_assignable_v<wal::OwnedRecord>);
static_assert(std::is_copy_constructible_v<wal::Options> && std::is_nothrow_copy_constructible_v<wal::Exception>);
// What would read as if it were the value cannot be asked.
static_assert(std::is_constructible_v<bool, wal::Result<Lsn>> && std::is_constructible_v<bool, wal::Result<void>>);
static_assert(!std::is_constructible_v<bool, wal::Result<bool>>);
static_assert(!std::is_constructible_v<bool, wal::Result<std::optional<wal::Record>>>);
static_assert(!std::is_constructible_v<wal::Bytes, std::nullptr_t>);
static_assert(!std::is_constructible_v<wal::Bytes, std::vector<int>>);

namespace {

fs::path scratch;

fs::path fresh(const char* name) {
    fs::remove_all(scratch / name);
    return scratch / name;
}

/// Small segments, so that a few records fill some.
wal::Options small() { return wal::Options().segment_size(16 << 10).buffer_size(8 << 10); }

std::vector<std::string> texts(wal::Result<wal::Records> records) {
    std::vector<std::string> all;
    for (const wal::Record& record : records) all.emplace_back(record.text());
    return all;
}

/// The code of the exception that was thrown; none if none was.
template <class Call>
Code thrown(Call&& call) {
    try {
        call();
    } catch (const wal::Exception& exception) {
        CHECK(exception.what() == exception.error().message && !exception.error().message.empty());
        const std::runtime_error& base = exception;
        CHECK(base.what()[0] != '\0');
        return exception.code();
    }
    return Code();
}

/// Something whose copies are counted, to see that a callable is freed exactly once.
struct Counted {
    std::atomic<int>* alive;
    explicit Counted(std::atomic<int>& count) : alive(&count) { ++*alive; }
    Counted(const Counted&) = delete;
    Counted(Counted&& other) noexcept : alive(other.alive) { ++*alive; }
    ~Counted() { --*alive; }
};

void bytes() {
    const std::vector<char> chars{'a', 'b'};
    const std::vector<unsigned char> octets{'a', 'b'};
    const std::vector<std::byte> raw{std::byte{'a'}, std::byte{'b'}};
    const std::array<unsigned char, 2> array{'a', 'b'};
    const std::string string = "ab";
    const char* const pointer = "ab";
    for (const wal::Bytes view : {wal::Bytes(chars), wal::Bytes(octets), wal::Bytes(raw), wal::Bytes(array),
             wal::Bytes(string), wal::Bytes(pointer), wal::Bytes("ab"), wal::Bytes(std::string_view("ab")),
             wal::Bytes(string.data(), 2)}) {
        CHECK(view.text() == "ab" && view.size() == 2 && view[1] == std::byte{'b'} && !view.empty());
        CHECK(std::string_view(view) == "ab" && std::string(view) == "ab" && view.end() - view.begin() == 2);
    }
    CHECK(wal::Bytes().empty() && wal::Bytes("").empty() && wal::Bytes().text().empty());
    using namespace std::string_literals;
    CHECK(wal::Bytes("a\0b"s).size() == 3);
#if __cplusplus >= 202002L
    CHECK(wal::Bytes(std::span(octets)).text() == "ab" && wal::Bytes(std::as_bytes(std::span(chars))).size() == 2);
    const std::span<const std::byte> span = wal::Bytes("ab");
    CHECK(span.size() == 2);
#endif
}

void appends_and_reads() {
    Log log = Log::open(fresh("basic"), small()).value();
    const Lsn first = log.append("one").value();
    CHECK(first == 0);
    CHECK(log.try_append("two").value() > first);
    const Lsn third = log.append_and_sync(std::vector<unsigned char>{'3'}).value();
    CHECK(log.durable().value() > third);
    const std::vector<std::string> members{"four", "", "six"};
    const std::vector<Lsn> lsns = log.append_batch(members).value();
    CHECK(lsns.size() == 3 && lsns[0] < lsns[1] && lsns[1] < lsns[2]);
    CHECK(log.append_batch({"seven", members[0]}).value().size() == 2);
    CHECK(log.append_batch(std::array<std::string_view, 0>()).value().empty());
    CHECK(texts(log.records()) == (std::vector<std::string>{"one", "two", "3", "four", "", "six", "seven", "four"}));
    CHECK(texts(log.records(lsns[2])) == (std::vector<std::string>{"six", "seven", "four"}));
    CHECK(texts(log.records(log.tail().value())).empty());

    // The result of one call is a range too, and so is what is left of it when its value was taken out.
    Lsn last = 0;
    for (const Lsn lsn : log.append_batch({"a", "b"})) last = lsn;
    std::size_t count = 0;
    for (const wal::Record& record : log.records().value()) count += record.lsn <= last ? 1 : 0;
    CHECK(count == 10);
    const wal::OwnedRecord owned = log.read(last).value();
    CHECK(owned.text() == "b" && owned.lsn == last && owned.kind == wal::Kind::batch_end);
    CHECK(log.read(first).value().kind == wal::Kind::data);
    CHECK(log.read(lsns[0]).value().kind == wal::Kind::batch);

    CHECK(log.flush().ok() && log.sync().ok() && log.sync_to(first).ok());
    CHECK(log.wait_durable(first, 0ms).value() && log.wait_durable(first, std::chrono::hours(1)).value());
    CHECK(log.wait_durable(first).ok());
    const Lsn late = log.append("not synced").value();
    CHECK(!log.wait_durable(late, 1ms).value());
    // A deadline that has passed is not "for ever", as a negative number is in C.
    CHECK(!log.wait_durable(late, -5ms).value());

    const wal::Stats stats = log.stats().value();
    CHECK(stats.segment_size == 16 << 10 && stats.records >= 11 && stats.syncs >= 1 && stats.checkpoint == WAL_NO_LSN);
    CHECK(log.damage().value().sound());
    CHECK(log.handle() != nullptr && wal_sync(log.handle()) == WAL_OK);
    log.close().value();
    CHECK(owned.text() == "b");
    CHECK(wal::version()[0] != '\0' && wal::describe(Code::full)[0] != '\0');
}

void errors_by_choice() {
    const fs::path dir = fresh("errors");
    Log log = Log::open(dir, small().max_record_size(100)).value();
    const std::string big(101, 'x');

    const auto failed = log.append(big);
    CHECK(!failed && !failed.ok() && failed.error().code == Code::too_large && failed.error().cause == Code::too_large);
    CHECK(!failed.error().message.empty() && !failed.error().lsn);
    // The message is a copy: later failures leave it alone.
    const std::string message = failed.error().message;
    CHECK(log.read(4).error().code == Code::invalid_argument);
    CHECK(failed.error().message == message);
    CHECK(thrown([&] { failed.value(); }) == Code::too_large);
    CHECK(thrown([&] { *failed; }) == Code::too_large);
    CHECK(thrown([&] { log.append(big).value(); }) == Code::too_large);
    CHECK(thrown([&] { log.sync_to(1).value(); }) == Code::invalid_argument);
    CHECK(thrown([&] { CHECK(texts(log.records(3)).empty()); }) == Code::invalid_argument);
    CHECK(thrown([&] { Log::open(dir).value(); }) == Code::locked);

    const auto missing = Log::open(fresh("missing"), wal::Options().create(false));
    CHECK(missing.error().code == Code::io && missing.error().os_error == ENOENT && missing.error().message.find("missing") != std::string::npos);
    std::ofstream(scratch / "file").put('x');
    const auto below = Log::open(scratch / "file" / "log");
    CHECK(below.error().code == Code::io && below.error().os_error == ENOTDIR);
    CHECK(Log::open(fresh("odd"), wal::Options().segment_size(5000)).error().code == Code::invalid_argument);
    CHECK(Log::open("").error().code == Code::invalid_argument);
    CHECK(Log::open(static_cast<const char*>(nullptr)).error().code == Code::invalid_argument);
    CHECK(Log::open((dir / "x").string() + '\0' + "y").error().code == Code::invalid_argument);

    // A failure that is kept on another thread than the one it happened on.
    auto elsewhere = std::async(std::launch::async, [&] { return log.append(big); }).get();
    CHECK(elsewhere.error().message == message);
    // Exceptions are copied, thrown again, and hold what they held.
    std::exception_ptr kept;
    try {
        elsewhere.value();
    } catch (...) {
        kept = std::current_exception();
    }
    CHECK(thrown([&] { std::rethrow_exception(kept); }) == Code::too_large);

    Log full = Log::open(fresh("full"), small().background(false)).value();
    CHECK(full.try_append(std::string(9000, 'x')).error().code == Code::too_large);
    wal::Result<Lsn> tried = full.try_append("x");
    while (tried) tried = full.try_append(std::string(1000, 'x'));
    CHECK(tried.error().code == Code::full);
}

void moves() {
    Log first = Log::open(fresh("move1"), small()).value();
    Log second = std::move(first);
    second.append("x").value();
    // NOLINTBEGIN: what a moved-from object does is what is tested.
    CHECK(first.append("x").error().code == Code::invalid_argument);
    CHECK(first.records().error().code == Code::invalid_argument);
    CHECK(first.stats().error().code == Code::invalid_argument);
    CHECK(first.commit("x").get().error().code == Code::invalid_argument);
    CHECK(first.close().error().code == Code::invalid_argument);

    // What was assigned to is closed first: its directory can be opened again.
    Log third = Log::open(fresh("move2"), small()).value();
    third = std::move(second);
    Log again = Log::open(scratch / "move2").value();
    Log& self = third;
    third = std::move(self);
    CHECK(third.append("y").ok());

    wal::Records records = third.records().value();
    wal::Records moved = std::move(records);
    CHECK(moved.next().value()->text() == "x");
    CHECK(records.next().error().code == Code::invalid_argument);
    CHECK(records.refresh().error().code == Code::invalid_argument);
    CHECK(records.position().error().code == Code::invalid_argument);
    records = std::move(moved);
    CHECK(records.next().value()->text() == "y" && !records.next().value());

    wal::OwnedRecord x = third.read(0).value();
    wal::OwnedRecord y = std::move(x);
    CHECK(x.data.empty() && y.text() == "x");
    wal::OwnedRecord& same = y;
    y = std::move(same);
    CHECK(y.text() == "x");
    y = third.read(16).value();
    CHECK(y.text() == "y");
    // NOLINTEND
    std::vector<Log> logs;
    logs.push_back(std::move(third));
    logs.push_back(std::move(again));
    logs.erase(logs.begin());
    CHECK(Log::open(scratch / "move1").ok());
}

void ranges() {
    std::optional<Log> log = Log::open(fresh("ranges"), small()).value();
    for (int n = 0; n < 10; ++n) log->append(std::to_string(n)).value();

    wal::Records records = log->records().value();
    std::string seen;
    for (const wal::Record& record : records) {
        seen += record.text();
        if (record.text() == "3") break;
    }
    for (const wal::Record& record : records) {
        seen += record.text();
        if (record.text() == "5") break;
    }
    CHECK(seen == "012345");
    // Copies of an iterator show the same record; algorithms work that need a single pass.
    wal::Records numbers = log->records().value();
    const auto seven = [](const wal::Record& record) { return record.text() == "7"; };
    auto it = std::find_if(numbers.begin(), numbers.end(), seven);
    CHECK(it != numbers.end() && it->text() == "7" && (*it).kind == wal::Kind::data);
    CHECK(std::distance(it, numbers.end()) == 3);
    CHECK(wal::Records::Iterator() == numbers.end());

    // They stay when the log is closed and gone.
    wal::Records left = log->records(log->head().value()).value();
    wal::Records end = log->records(log->tail().value()).value();
    CHECK(left.next().value()->text() == "0");
    CHECK(end.position().value() == log->tail().value());
    log->close().value();
    log.reset();
    CHECK(records.next().value()->text() == "6" && texts(std::move(left)).size() == 9);
    CHECK(texts(std::move(end)).empty());

    // Without exceptions.
    Log reopened = Log::open(scratch / "ranges", wal::Options().read_only(true)).value();
    auto opened = reopened.records();
    std::size_t count = 0;
    for (;; ++count) {
        const auto record = opened->next();
        CHECK(record.ok());
        if (!*record) break;
    }
    CHECK(count == 10);
    CHECK(reopened.append("x").error().code == Code::invalid_argument);
}

void follows() {
    Log log = Log::open(fresh("follow"), small()).value();
    wal::Records records = log.records().value();
    CHECK(!records.next().value() && !records.follow(1ms).value() && !records.follow(-1ms).value());
    std::thread writer([&] {
        log.append("one").value();
        log.flush().value();
        log.append_and_sync("two").value();
    });
    CHECK(records.follow().value()->text() == "one");
    CHECK(records.follow(std::chrono::milliseconds::max()).value()->text() == "two");
    writer.join();
    log.append("three").value();
    CHECK(records.refresh().value());
    CHECK(records.next().value()->text() == "three" && !records.refresh().value());
    CHECK(!records.follow(1ms).value() && !records.ended());
    log.append("four").value();
    log.close().value();
    CHECK(records.follow().value()->text() == "four" && !records.ended());
    CHECK(!records.follow().value() && records.ended());
    const wal::Records moved = std::move(records);
    CHECK(moved.ended());
}

void callables() {
    std::atomic<int> alive{0};
    std::atomic<int> called{0};
    Log log = Log::open(fresh("async"), small()).value();

    struct Functor {
        Counted counted;
        std::unique_ptr<int> owned;
        std::atomic<int>* called;
        void operator()(wal::Result<Lsn> durable) && {
            CHECK(durable.ok() && *owned == 7);
            ++*called;
        }
    };
    const auto functor = [&] { return Functor{Counted(alive), std::make_unique<int>(7), &called}; };
    const Lsn lsn = log.append_async("one", functor()).value();
    log.when_durable(lsn, functor()).value();
    log.sync_async(functor()).value();
    // An lvalue is copied and stays; a std::function, a pointer to a function.
    std::function<void(wal::Result<Lsn>)> function = [&](const wal::Result<Lsn>& durable) {
        called += durable.ok() ? 1 : 100;
    };
    log.append_async("two", function).value();
    log.append_async("three", +[](wal::Result<Lsn> durable) { CHECK(durable.ok()); }).value();
    log.append_async("four").value();
    log.sync_async().value();
    log.when_durable(lsn).value();

    // What fails is not called, and is freed.
    CHECK(log.append_async(std::string((64 << 20) + 1, 'x'), functor()).error().code == Code::too_large);
    CHECK(log.when_durable(1 << 30, functor()).error().code == Code::invalid_argument);
    auto future = log.commit("five");
    auto dropped = log.commit("six");
    dropped = std::future<wal::Result<Lsn>>();
    CHECK(future.get().value() > lsn);
    CHECK(log.commit(std::string((64 << 20) + 1, 'x')).get().error().code == Code::too_large);

    // A callable that uses the log.
    std::promise<Lsn> nested;
    log.append_async("seven", [&](const wal::Result<Lsn>&) { nested.set_value(log.append("eight").value()); }).value();
    CHECK(log.read(nested.get_future().get()).value().text() == "eight");

    // close() makes the calls that are outstanding.
    std::vector<std::future<wal::Result<Lsn>>> futures;
    for (int n = 0; n < 100; ++n) futures.push_back(log.commit("x"));
    log.close().value();
    CHECK(called == 4 && alive == 0);
    for (auto& each : futures) {
        CHECK(each.wait_for(0s) == std::future_status::ready && each.get().ok());
    }
    CHECK(log.append_async("late", functor()).error().code == Code::closed);
    CHECK(log.sync_async(functor()).error().code == Code::closed);
    CHECK(log.when_durable(0, functor()).error().code == Code::closed);
    CHECK(log.commit("late").get().error().code == Code::closed);
    CHECK(called == 4 && alive == 0);

    // A callable that holds the last reference to the log closes it, on the log's own thread.
    auto shared = std::make_shared<Log>(Log::open(fresh("shared"), small()).value());
    std::promise<void> gone;
    struct Last {
        std::shared_ptr<Log> log;
        std::promise<void>* gone;
        void operator()(wal::Result<Lsn> durable) {
            CHECK(durable.ok());
            while (log.use_count() > 1) std::this_thread::yield();
            log.reset();
            gone->set_value();
        }
    };
    Log& borrowed = *shared;
    borrowed.append_async("x", Last{std::move(shared), &gone}).value();
    gone.get_future().get();
    CHECK(texts(Log::open(scratch / "shared").value().records()).size() == 1);
}

void events() {
    Log log = Log::open(fresh("events"), small()).value();
    const int fd = log.event_fd().value();
    CHECK(log.event_fd().value() == fd);
    pollfd poll_fd{fd, POLLIN, 0};
    CHECK(poll(&poll_fd, 1, 0) == 0);
    const Lsn lsn = log.append_async("x").value();
    CHECK(poll(&poll_fd, 1, 10000) == 1);
    log.event_clear().value();
    CHECK(log.durable().value() > lsn && poll(&poll_fd, 1, 0) == 0);
}

void closes_under_appends() {
    Log log = Log::open(fresh("close"), small()).value();
    std::atomic<std::uint64_t> accepted{0};
    std::vector<std::thread> threads;
    for (int n = 0; n < 4; ++n) {
        threads.emplace_back([&, n] {
            for (;;) {
                const auto lsn = n % 2 == 0 ? log.append("x") : log.commit("y").get();
                if (!lsn) {
                    CHECK(lsn.error().code == Code::closed);
                    return;
                }
                ++accepted;
            }
        });
    }
    while (accepted < 200) std::this_thread::yield();
    log.close().value();
    for (auto& thread : threads) thread.join();
    CHECK(log.close().error().code == Code::closed && log.head().error().code == Code::closed);
    CHECK(texts(Log::open(scratch / "close").value().records()).size() == accepted);
}

void checkpoints() {
    Log log = Log::open(fresh("checkpoint"), small()).value();
    CHECK(!log.last_checkpoint().value());
    CHECK(texts(log.records_from_checkpoint()).empty());
    const std::string record(1000, 'x');
    for (int n = 0; n < 100; ++n) log.append(record).value();
    const Lsn checkpoint = log.checkpoint("state").value();
    CHECK(log.last_checkpoint().value() == checkpoint && log.durable().value() > checkpoint);
    log.append("after").value();
    auto early = log.records().value();
    log.truncate_before(checkpoint).value();
    CHECK(log.head().value() > 0 && log.head().value() <= checkpoint && log.head().value() > checkpoint - (16 << 10));
    wal::Records records = log.records_from_checkpoint().value();
    const auto first = records.next().value();
    CHECK(first->kind == wal::Kind::checkpoint && first->text() == "state" && first->lsn == checkpoint);
    CHECK(records.next().value()->text() == "after");
    const auto truncated = log.read(0);
    CHECK(truncated.error().code == Code::truncated && truncated.error().lsn == log.head().value());
    CHECK(log.records(0).error().code == Code::truncated);
    CHECK(log.truncate_before(checkpoint + 3).error().code == Code::invalid_argument);
    // A loop whose records are truncated away throws; it does not end as if that were all.
    CHECK(thrown([&] { for (const wal::Record& each : early) CHECK(each.text() == record); }) == Code::truncated);
}

void options() {
    wal::Options all;
    all.segment_size(1 << 20).buffer_size(64 << 10).shared_buffer(false).max_record_size(1000).recycle(1).retention_none()
        .retention_bytes(4 << 20).retention_segments(3).retain_checkpoint(false).sync_interval(5ms).background(true)
        .read_only(false).create(true).recovery(wal::Recovery::strict).first_lsn(4096);
    const wal::Options copy = all;
    {
        Log log = Log::open(fresh("options"), copy).value();
        const Lsn lsn = log.append("x").value();
        CHECK(lsn == 4096);
        CHECK(log.wait_durable(lsn, 10s).value()); // By the sync interval.
        CHECK(log.stats().value().segment_size == 1 << 20 && log.stats().value().buffer_size == 64 << 10);
        CHECK(log.stats().value().shared_buffer == 0);
        CHECK(log.append(std::string(1001, 'x')).error().code == Code::too_large);
    }
    Log log = Log::open(fresh("options"), all.first_lsn(8192).sync_interval(-1ms)).value();
    CHECK(log.append("x").value() == 8192 && !log.wait_durable(8192, 50ms).value());
    // What the retention drops.
    Log few = Log::open(fresh("retention"), small().retention_segments(2).retain_checkpoint(false)).value();
    for (int n = 0; n < 100; ++n) few.append_and_sync(std::string(1000, 'x')).value();
    CHECK(few.head().value() > 0);
}

fs::path segment_of(const fs::path& dir) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(dir)) {
        if (fs::file_size(entry) > 4096) files.push_back(entry);
    }
    CHECK(!files.empty());
    return *std::min_element(files.begin(), files.end());
}

void damage() {
    const fs::path dir = fresh("damage"), keep = fresh("kept");
    {
        Log log = Log::open(dir, small()).value();
        for (int n = 0; n < 50; ++n) log.append_and_sync(std::string(100, static_cast<char>('a' + n % 26))).value();
        log.close().value();
    }
    std::atomic<std::uint64_t> most{0};
    const auto sound = wal::verify(dir, 2, [&](std::uint64_t done, std::uint64_t total) {
        CHECK(done <= total);
        most = std::max<std::uint64_t>(most, done);
    }).value();
    CHECK(sound.sound() && sound.records == 50 && sound.payload_bytes == 5000 && sound.closed_cleanly && most > 0);
    CHECK(!sound.checkpoint && !sound.torn_tail && sound.head == 0 && sound.tail > 5000 && sound.segments >= 1);
    {
        std::fstream file(segment_of(dir), std::ios::in | std::ios::out | std::ios::binary);
        file.seekg(4096 + 1500);
        const char byte = static_cast<char>(file.get() ^ 0x10);
        file.seekp(4096 + 1500);
        file.put(byte);
        CHECK(file.good());
    }
    const wal::Report report = wal::verify(dir).value();
    CHECK(!report.sound() && report.damage.size() == 1 && report.files.empty() && report.records == 49);
    CHECK(report.damage[0].from <= 1500 && report.damage[0].to > 1500);
    CHECK(!report.damage[0].path.empty() && !report.damage[0].reason.empty());

    // A loop over damaged records throws, with the LSN.
    {
        const Log log = Log::open(dir, wal::Options().read_only(true)).value();
        std::size_t count = 0;
        std::optional<wal::Error> error;
        try {
            for (const wal::Record& record : log.records()) count += record.data.size() == 100 ? 1 : 0;
        } catch (const wal::Exception& exception) {
            error = exception.error();
        }
        CHECK(error && error->code == Code::corrupt && error->lsn == report.damage[0].from);
        CHECK(count > 5 && count < 20);
    }
    {
        const Log log = Log::open(dir, wal::Options().recovery(wal::Recovery::salvage)).value();
        const std::vector<wal::Damage> ranges = log.damage().value().damage;
        CHECK(ranges.size() == 1 && ranges[0].from == report.damage[0].from && !ranges[0].reason.empty());
        CHECK(texts(log.records()).size() == 49);
    }
    CHECK(wal::repair(dir, keep).value().damage.size() == 1);
    CHECK(!fs::is_empty(keep));
    CHECK(wal::verify(dir.string()).value().sound());
    CHECK(texts(Log::open(dir).value().records()).size() == 49);

    fs::remove(segment_of(dir));
    CHECK(wal::verify(dir.c_str()).value().files.size() + wal::verify(dir).value().damage.size() > 0);
    CHECK(wal::verify(fresh("none")).error().os_error == ENOENT);
    CHECK(wal::repair(scratch / "none", keep).error().os_error == ENOENT);
    fs::create_directory(scratch / "none");
    CHECK(wal::verify(scratch / "none").error().code == Code::invalid_argument);
}

void paths() {
    const fs::path dir = fresh("Журнал 日志 \xc3\xa9");
    Log::open(dir, small()).value().append_and_sync("x").value();
    CHECK(fs::is_directory(dir));
    CHECK(texts(Log::open(dir.string()).value().records()).size() == 1);
    CHECK(texts(Log::open(dir.c_str()).value().records()).size() == 1);
    CHECK(wal::verify(dir).value().sound());
    Log log = Log::open(dir).value();
    CHECK(Log::open(dir).error().message.find("日志") != std::string::npos);
#if defined(__linux__)
    // A name that is no UTF-8 is a name all the same.
    const std::string bytes = (scratch / "\xff\xfe").string();
    fs::remove_all(bytes);
    CHECK(Log::open(bytes, small()).ok() && fs::is_directory(bytes));
#endif
}

void forks() {
    Log log = Log::open(fresh("fork"), small()).value();
    log.append("x").value();
    std::fflush(nullptr);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const bool refused = log.append("y").error().code == Code::forked && log.close().error().code == Code::forked;
        { Log moved = std::move(log); } // Its destructor leaves the parent's log alone.
        // Another program: what the parent's threads held in this one is no leak.
        execlp(refused ? "true" : "false", "child", static_cast<char*>(nullptr));
        _exit(2);
    }
    int status = -1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(log.append("z").ok() && log.close().ok());
    CHECK(texts(Log::open(scratch / "fork").value().records()).size() == 2);
}

} // namespace

int main(int argc, char** argv) {
    CHECK(argc == 2);
    scratch = argv[1];
    fs::create_directories(scratch);
    bytes();
    appends_and_reads();
    errors_by_choice();
    moves();
    ranges();
    follows();
    callables();
    events();
    closes_under_appends();
    checkpoints();
    options();
    damage();
    paths();
    forks();
    std::puts("the C++ wrapper: ok");
}
