// wal.hpp without exceptions and without run-time type information: every call is used, and nothing throws.
// Takes a directory that does not exist yet, as the tests beside it do.

#include <wal.hpp>

#include "check.hpp"

namespace {

// How one reads a log to its end where nothing throws.
wal::Result<std::uint64_t> count(const wal::Log& log) {
    auto records = log.records();
    if (!records) return records.error();
    for (std::uint64_t n = 0;; ++n) {
        const auto record = records->next();
        if (!record.ok()) return record.error();
        if (!*record) return n;
    }
}

wal::Result<std::uint64_t> run(const char* dir) {
    auto opened = wal::Log::open(dir, wal::Options().segment_size(64 << 10));
    if (!opened) return opened.error();
    wal::Log log = std::move(*opened);
    if (auto lsn = log.append("one"); !lsn) return lsn.error();
    if (auto lsns = log.append_batch({"two", "three"}); !lsns) return lsns.error();
    if (auto lsn = log.append_async("four", [](wal::Result<wal::Lsn> durable) { CHECK(durable.ok()); }); !lsn) {
        return lsn.error();
    }
    if (auto durable = log.commit("five").get(); !durable) return durable.error();
    std::uint64_t seen = 0;
    for (const wal::Record& record : log.records()) seen += record.data.empty() ? 0 : 1;
    CHECK(seen == 5);
    auto counted = count(log);
    if (auto closed = log.close(); !closed) return closed.error();
    CHECK(log.append("six").error().code == wal::Code::closed);
    const auto report = wal::verify(dir);
    CHECK(report && report->sound() && report->records == 5);
    return counted;
}

} // namespace

int main(int argc, char** argv) {
    CHECK(argc == 2);
    const auto counted = run(argv[1]);
    CHECK(counted && *counted == 5);
    std::puts("without exceptions: ok");
}
