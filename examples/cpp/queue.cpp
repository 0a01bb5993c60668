// A durable message queue with acknowledgement, on one log.
//
// A pushed message is a record, and so is the acknowledgement of one, which names the message by its LSN. Recovery
// replays them: what was pushed and not acknowledged is in the queue. Each message is delivered at least once; one that
// was acknowledged is never delivered again, whatever crashes. Now and then a checkpoint holds all that is in the
// queue, and what is older is dropped, so the log does not grow for ever.
//
//     queue DIR              a demonstration that checks itself: producers and consumers, killed in the middle
//     queue DIR push TEXT    puts a message into the queue
//     queue DIR pop          takes one out, prints it, and acknowledges it

#include <wal.hpp>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

namespace {

/// The bytes of a number and, behind them, of a text; and back.
std::string encode(std::uint64_t number, std::string_view text = {}) {
    std::string bytes;
    for (int shift = 0; shift < 64; shift += 8) bytes.push_back(static_cast<char>(number >> shift & 0xff));
    return bytes.append(text);
}

std::uint64_t decode(std::string_view& bytes) {
    if (bytes.size() < 8) throw std::runtime_error("a record is not one of a queue");
    std::uint64_t number = 0;
    for (int byte = 0; byte < 8; ++byte) {
        number |= std::uint64_t{static_cast<unsigned char>(bytes[static_cast<std::size_t>(byte)])} << 8 * byte;
    }
    bytes.remove_prefix(8);
    return number;
}

struct Message {
    wal::Lsn id; // Where it was appended. No LSN is used twice, so it names the message also when the record is gone.
    std::string text;
};

/// Any number of threads may use it at once.
class Queue {
public:
    explicit Queue(const wal::Path& dir)
        : log_(wal::Log::open(dir, wal::Options().segment_size(64 << 10).buffer_size(64 << 10)).value()) {
        compact_behind(log_.head().value(), 0);
        for (const wal::Record& record : log_.records_from_checkpoint()) replay(record);
        for (const auto& [id, text] : messages_) ready_.insert(id);
    }

    /// Puts a message into the queue. It is durable on return, and is delivered only then.
    void push(std::string text) {
        std::unique_lock lock(mutex_);
        const wal::Lsn id = log_.append("m" + text).value();
        // A checkpoint that is made from here on has it: so nothing is lost if it is dropped from the log behind that.
        messages_.emplace(id, std::move(text));
        lock.unlock();
        // Without the lock, so that one sync serves all who are here. Not sync_to(id): a checkpoint may have made the
        // message durable, and dropped its record.
        log_.sync().value();
        lock.lock();
        ready_.insert(id);
        lock.unlock();
        arrived_.notify_one();
    }

    /// Takes the oldest message that nobody has. Waits for one up to `patience`. It comes again after a restart, unless
    /// it is acknowledged.
    std::optional<Message> pop(std::chrono::milliseconds patience) {
        std::unique_lock lock(mutex_);
        if (!arrived_.wait_for(lock, patience, [&] { return !ready_.empty(); })) return std::nullopt;
        const wal::Lsn id = ready_.extract(ready_.begin()).value();
        return Message{id, messages_.at(id)};
    }

    /// Notes that a message was dealt with. On return it will never be delivered again: so the note is durable first.
    void acknowledge(wal::Lsn id) {
        std::unique_lock lock(mutex_);
        log_.append("a" + encode(id)).value();
        messages_.erase(id);
        lock.unlock();
        log_.sync().value();
        compact();
    }

    /// How many bytes of the stream the log holds.
    std::uint64_t size() const { return log_.tail().value() - log_.head().value(); }

    void close() { log_.close().value(); }

private:
    void replay(const wal::Record& record) {
        std::string_view bytes = record.text();
        if (record.kind == wal::Kind::checkpoint) {
            messages_.clear();
            compact_behind(record.lsn, bytes.size());
            while (!bytes.empty()) {
                const wal::Lsn id = decode(bytes);
                const std::size_t length = std::min<std::size_t>(decode(bytes), bytes.size());
                messages_.emplace(id, bytes.substr(0, length));
                bytes.remove_prefix(length);
            }
            return;
        }
        const char kind = bytes.empty() ? '\0' : bytes.front();
        if (kind != 'm' && kind != 'a') throw std::runtime_error("a record is not one of a queue");
        bytes.remove_prefix(1);
        if (kind == 'm') messages_.emplace(record.lsn, bytes);
        else messages_.erase(decode(bytes));
    }

    /// The next checkpoint is due when the log has grown by two segments, and by as much as this one holds: so a long
    /// queue is not written down all the time.
    void compact_behind(wal::Lsn checkpoint, std::uint64_t size) {
        compact_at_ = checkpoint + size + std::max<std::uint64_t>(size, 128 << 10);
    }

    /// Writes down what is in the queue, if that is due, and drops what is older.
    void compact() {
        const std::lock_guard lock(mutex_);
        if (log_.tail().value() < compact_at_) return;
        // The lock is held: what the state does not contain is appended after it, as a checkpoint asks.
        std::string state;
        for (const auto& [id, text] : messages_) state += encode(id) + encode(text.size(), text);
        const wal::Lsn checkpoint = log_.checkpoint(state).value();
        compact_behind(checkpoint, state.size());
        // In this order: the checkpoint is durable before anything that it replaces is gone.
        log_.truncate_before(checkpoint).value();
    }

    wal::Log log_;
    std::mutex mutex_; // Guards all below, and the order in which they and the log change.
    std::condition_variable arrived_;
    std::map<wal::Lsn, std::string> messages_; // Pushed and not acknowledged.
    std::set<wal::Lsn> ready_;                 // Those of them that are durable and that nobody has taken.
    wal::Lsn compact_at_ = 0;
};

// ---- The demonstration ----------------------------------------------------------------------------------------------
//
// A child process works on the queue and tells what it has done, one line each, through a pipe to its parent, which
// kills it in the middle. What the child could tell before it died, it had been promised by the queue; the parent holds
// what is there after the crash against it.

constexpr int producers = 4;
constexpr int consumers = 3;
constexpr int rounds = 3;

[[noreturn]] void work(const char* dir, int round, int pipe) {
    // In the last round nobody consumes: so no acknowledgement makes durable what a push left undone.
    const int consuming = round + 1 < rounds ? consumers : 0;
    Queue queue(dir);
    // A line is written at once or not at all (it is shorter than PIPE_BUF), so no two of them mix.
    const auto tell = [pipe](char what, const std::string& text) {
        const std::string line = what + text + "\n";
        if (write(pipe, line.data(), line.size()) != static_cast<ssize_t>(line.size())) _exit(1);
    };
    std::vector<std::thread> threads;
    for (int producer = 0; producer < producers; ++producer) {
        threads.emplace_back([&, producer] {
            for (int n = 0;; ++n) {
                const auto text = std::to_string(round) + "/" + std::to_string(producer) + "/" + std::to_string(n);
                queue.push(text);
                tell('p', text);
            }
        });
    }
    for (int consumer = 0; consumer < consuming; ++consumer) {
        threads.emplace_back([&, consumer] {
            for (int n = 0;; ++n) {
                const auto message = queue.pop(std::chrono::seconds(1));
                if (!message) continue;
                tell('d', message->text);
                // Now and then one is not dealt with: it must come again after the restart.
                if (n % 50 == consumer) {
                    tell('n', message->text);
                    continue;
                }
                queue.acknowledge(message->id);
                tell('a', message->text);
            }
        });
    }
    for (auto& thread : threads) thread.join();
    std::abort();
}

/// What the children told.
struct Told {
    std::set<std::string> delivered, acknowledged;
    std::set<std::string> owed; // Pushed and not delivered, or delivered and certainly not acknowledged.
    std::size_t pushed = 0, deliveries = 0, again = 0, mistakes = 0;

    std::size_t promises() const { return pushed + acknowledged.size(); }

    void line(const std::string& line) {
        const std::string text = line.substr(1);
        switch (line[0]) {
        case 'p': // A consumer can be quicker to tell than the producer.
            ++pushed;
            if (delivered.count(text) == 0) owed.insert(text);
            break;
        case 'd': deliver(text); break;
        case 'n': owed.insert(text); break;
        default: acknowledged.insert(text);
        }
    }

    void deliver(const std::string& text) {
        ++deliveries;
        owed.erase(text);
        if (acknowledged.count(text) != 0) {
            ++mistakes;
            std::printf("WRONG: %s was acknowledged and came again\n", text.c_str());
        }
        if (!delivered.insert(text).second) ++again;
    }
};

/// Lets a child work until it has told of `count` more pushes and acknowledgements, and kills it. This process has no log
/// open and no second thread, so it may fork.
void round(const char* dir, int number, std::size_t count, Told& told) {
    std::array<int, 2> ends{};
    if (pipe(ends.data()) != 0) throw std::runtime_error("no pipe");
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child < 0) throw std::runtime_error("no child process");
    if (child == 0) {
        close(ends[0]);
        work(dir, number, ends[1]);
    }
    close(ends[1]);
    const std::size_t enough = told.promises() + count;
    bool killed = false;
    std::string rest;
    std::array<char, 4096> buffer{};
    // Read on after the kill: what is in the pipe was told before.
    for (ssize_t got; (got = read(ends[0], buffer.data(), buffer.size())) > 0;) {
        rest.append(buffer.data(), static_cast<std::size_t>(got));
        for (std::size_t end; (end = rest.find('\n')) != std::string::npos; rest.erase(0, end + 1)) {
            told.line(rest.substr(0, end));
        }
        if (!killed && told.promises() >= enough) {
            kill(child, SIGKILL);
            killed = true;
        }
    }
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (!killed || !WIFSIGNALED(status)) throw std::runtime_error("the child ended by itself");
}

int demonstrate(const char* dir) {
    if (std::filesystem::exists(dir)) throw std::runtime_error("the directory exists already");
    Told told;
    for (int number = 0; number < rounds; ++number) {
        round(dir, number, 4000, told);
        std::printf("killed: %zu messages pushed, %zu delivered, %zu acknowledged\n", told.pushed, told.deliveries,
            told.acknowledged.size());
    }

    // What is left is taken out here.
    Queue queue(dir);
    std::size_t left = 0;
    for (; const auto message = queue.pop(std::chrono::milliseconds(0)); ++left) {
        told.deliver(message->text);
        queue.acknowledge(message->id);
        told.acknowledged.insert(message->text);
    }
    for (const std::string& text : told.owed) {
        ++told.mistakes;
        std::printf("WRONG: %s was pushed and never acknowledged, and is lost\n", text.c_str());
    }
    std::printf("recovered: %zu messages were left; %zu of all came again, not acknowledged\n", left, told.again);
    const std::uint64_t size = queue.size();
    std::printf("the log holds %" PRIu64 " KiB\n", size >> 10);
    // The segment that the last checkpoint begins in, the checkpoint, and two segments; the rounds together wrote more.
    if (size > 384 << 10) {
        ++told.mistakes;
        std::printf("WRONG: the log grows\n");
    }
    queue.close();
    if (told.mistakes == 0) std::printf("nothing pushed was lost, and nothing acknowledged came again\n");
    return told.mistakes == 0 ? 0 : 1;
}

int run(int argc, char** argv) {
    const std::string_view command = argc > 2 ? argv[2] : "";
    if (argc == 2) return demonstrate(argv[1]);
    if (argc == 4 && command == "push") {
        Queue queue(argv[1]);
        queue.push(argv[3]);
        queue.close();
        return 0;
    }
    if (argc == 3 && command == "pop") {
        Queue queue(argv[1]);
        const auto message = queue.pop(std::chrono::milliseconds(0));
        if (message) {
            std::printf("%s\n", message->text.c_str());
            queue.acknowledge(message->id);
        }
        queue.close();
        return message ? 0 : 2;
    }
    std::fprintf(stderr, "usage: queue DIR [push TEXT | pop]\n");
    return 2;
}

} // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "queue: %s\n", error.what());
        return 1;
    }
}
