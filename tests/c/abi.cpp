// A program that was compiled against the wal.h of another ABI is refused, not let in.

#include <wal.h>

#undef WAL_ABI_VERSION
#define WAL_ABI_VERSION 4711

#include <wal.hpp>

#include "check.hpp"

int main(int argc, char** argv) {
    CHECK(argc == 2);
    const auto log = wal::Log::open(argv[1]);
    CHECK(!log && log.error().code == wal::Code::unsupported_version);
    CHECK(log.error().message.find("ABI 4711") != std::string::npos);
    CHECK(wal::verify(argv[1]).error().code == wal::Code::unsupported_version);
    CHECK(wal::repair(argv[1], "elsewhere").error().code == wal::Code::unsupported_version);
    CHECK(!std::filesystem::exists(argv[1]));
    std::puts("another ABI: ok");
}
