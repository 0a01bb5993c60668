/*
 * libwal for C++17 and later: wal.h with destructors, ranges and results. Header only; link the same library.
 *
 *     wal::Log log = wal::Log::open("dir").value();
 *     wal::Lsn lsn = log.append_and_sync("a record").value();
 *     for (const wal::Record& record : log.records()) use(record.lsn, record.text());
 *     log.close().value();
 *
 * Errors: every call that can fail returns a Result, which holds the value or an Error, and which the compiler does not
 * let you ignore. What happens then is your choice at each call: `.value()` throws wal::Exception, `.ok()` and
 * `.error()` do not. Without exceptions (-fno-exceptions) `.value()` of a failure calls std::abort(). Memory that runs
 * out is std::bad_alloc, as everywhere; it is thrown before anything is appended, or while an Error is made.
 *
 * What a call does, what is durable when, and which errors it has is said in wal.h at the function of the same name;
 * here stands what is different in C++. A moved-from object refuses every call with Code::invalid_argument, a closed
 * log with Code::closed, a log in a forked child with Code::forked.
 */

#ifndef WAL_HPP
#define WAL_HPP

#include "wal.h"

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <future>
#include <initializer_list>
#include <iterator>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace wal {

/// The position of a record in the stream.
using Lsn = std::uint64_t;

/// What went wrong: the WAL_ERR_ codes. A newer library may return others.
enum class Code : int {
    io = WAL_ERR_IO,
    no_space = WAL_ERR_NO_SPACE,
    corrupt = WAL_ERR_CORRUPT,
    locked = WAL_ERR_LOCKED,
    poisoned = WAL_ERR_POISONED,
    closed = WAL_ERR_CLOSED,
    too_large = WAL_ERR_TOO_LARGE,
    full = WAL_ERR_FULL,
    invalid_argument = WAL_ERR_INVALID_ARGUMENT,
    truncated = WAL_ERR_TRUNCATED,
    forked = WAL_ERR_FORKED,
    unsupported_version = WAL_ERR_UNSUPPORTED_VERSION,
    panic = WAL_ERR_PANIC,
};

/// What a code means, in a few words. The text is constant.
inline const char* describe(Code code) noexcept { return wal_strerror(static_cast<int>(code)); }

/// The version of the library that is loaded, as "0.1.0".
inline const char* version() noexcept { return wal_version(); }

/// A failure, copied out of the library: it holds for as long as you keep it, on any thread.
struct Error {
    Code code;
    Code cause;               ///< For Code::poisoned the code of the first failure; otherwise the same as `code`.
    int os_error;             ///< The operating system's error number (errno) behind it, or 0.
    std::optional<Lsn> lsn;   ///< Where the damage is (Code::corrupt) or where the log begins (Code::truncated).
    std::string message;      ///< In UTF-8; names the file and the LSN where there are any.
};

/// What Result::value() throws.
class Exception : public std::runtime_error {
public:
    explicit Exception(Error error)
        : std::runtime_error(error.message), error_(std::make_shared<const Error>(std::move(error))) {}

    const Error& error() const noexcept { return *error_; }
    Code code() const noexcept { return error_->code; }

private:
    std::shared_ptr<const Error> error_; // Shared, so that copying the exception cannot throw.
};

namespace detail {

[[noreturn]] inline void fail(const Error& error) {
#if defined(__cpp_exceptions)
    throw Exception(error);
#else
    static_cast<void>(error);
    std::abort();
#endif
}

inline std::optional<Lsn> optional(Lsn lsn) noexcept {
    return lsn == WAL_NO_LSN ? std::nullopt : std::optional<Lsn>(lsn);
}

/// The calling thread's last failure. To be called at once after the call that failed.
inline Error last_error() {
    wal_error_t last{};
    wal_last_error_details(&last, sizeof last);
    const auto code = static_cast<Code>(last.code), cause = static_cast<Code>(last.cause);
    return Error{code, cause, last.os_error, optional(last.lsn), wal_last_error()};
}

template <class T>
struct is_optional : std::false_type {};
template <class T>
struct is_optional<std::optional<T>> : std::true_type {};

} // namespace detail

/// A value, or the Error instead of it.
///
///     Lsn lsn = log.append("x").value();                      // throws wal::Exception
///     if (auto lsn = log.append("x")) use(*lsn);              // does not
///     else report(lsn.error().message);
///
/// A result whose value is a bool or an optional has no operator bool, which would read as if it were the value: use
/// ok(). A result whose value is a range is a range: to iterate over it is to iterate over its value().
template <class T>
class [[nodiscard]] Result {
public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    bool ok() const noexcept { return state_.index() == 0; }

    template <class U = T, std::enable_if_t<!std::is_same_v<U, bool> && !detail::is_optional<U>::value, int> = 0>
    explicit operator bool() const noexcept { return ok(); }

    /// The value. Throws Exception if there is none, as `*` and `->` do.
    T& value() & { return check(), *std::get_if<0>(&state_); }
    const T& value() const& { return check(), *std::get_if<0>(&state_); }
    /// By value: what is left of a temporary result can be kept, and iterated over.
    T value() && { return check(), std::move(*std::get_if<0>(&state_)); }

    T& operator*() & { return value(); }
    const T& operator*() const& { return value(); }
    T operator*() && { return std::move(*this).value(); }
    T* operator->() { return &value(); }
    const T* operator->() const { return &value(); }

    /// The failure. Only if there is one: not ok().
    const Error& error() const { return std::get<1>(state_); }

    template <class U = T>
    auto begin() -> decltype(std::declval<U&>().begin()) { return value().begin(); }
    template <class U = T>
    auto end() -> decltype(std::declval<U&>().end()) { return value().end(); }

private:
    void check() const { if (!ok()) detail::fail(error()); }

    std::variant<T, Error> state_;
};

/// Success, or an Error.
template <>
class [[nodiscard]] Result<void> {
public:
    Result() = default;
    Result(Error error) : error_(std::move(error)) {}

    bool ok() const noexcept { return !error_; }
    explicit operator bool() const noexcept { return ok(); }
    /// Throws Exception if it failed.
    void value() const { if (!ok()) detail::fail(*error_); }
    /// The failure. Only if there is one: not ok().
    const Error& error() const { return error_.value(); }

private:
    std::optional<Error> error_;
};

namespace detail {

inline Result<void> result(int code) {
    if (code < 0) return last_error();
    return {};
}

/// Whether what was asked for is so (WAL_OK), or not (WAL_END, WAL_TIMEOUT).
inline Result<bool> whether(int code) {
    if (code < 0) return last_error();
    return code == WAL_OK;
}

/// What a call wrote to its out-parameter, a `From`, as a `T`.
template <class T, class From = T, class Call>
Result<T> out(Call&& call) {
    From from{};
    if (call(&from) < 0) return last_error();
    return T(from);
}

/// Time that has run out is no time; C's negative time is for ever.
constexpr std::int64_t limit(std::chrono::milliseconds timeout) noexcept {
    return timeout.count() < 0 ? 0 : timeout.count();
}

template <class T>
inline constexpr bool is_byte =
    std::is_same_v<T, char> || std::is_same_v<T, unsigned char> || std::is_same_v<T, std::byte>;

template <class T>
using Element = std::remove_cv_t<std::remove_pointer_t<decltype(std::data(std::declval<const T&>()))>>;

} // namespace detail

/// Bytes that belong to someone else, as std::string_view's characters do. Made from texts, and from whatever has
/// data() and size() and holds char, unsigned char or std::byte: std::vector, std::array, std::string, std::span.
class Bytes {
public:
    constexpr Bytes() noexcept = default;
    constexpr Bytes(const void* data, std::size_t size) noexcept : data_(data), size_(size) {}
    /// A text that ends in NUL, without the NUL.
    constexpr Bytes(const char* text) noexcept : Bytes(text, std::char_traits<char>::length(text)) {}
    Bytes(std::nullptr_t) = delete;
    template <class T, std::enable_if_t<detail::is_byte<detail::Element<T>> && !std::is_array_v<T>, int> = 0>
    constexpr Bytes(const T& bytes) noexcept : Bytes(std::data(bytes), std::size(bytes)) {}

    const std::byte* data() const noexcept { return static_cast<const std::byte*>(data_); }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    const std::byte* begin() const noexcept { return data(); }
    const std::byte* end() const noexcept { return data() + size_; }
    std::byte operator[](std::size_t index) const noexcept { return data()[index]; }
    std::string_view text() const noexcept { return {static_cast<const char*>(data_), size_}; }
    operator std::string_view() const noexcept { return text(); }

private:
    const void* data_ = nullptr;
    std::size_t size_ = 0;
};

/// What a record is.
enum class Kind : std::uint32_t {
    data = WAL_KIND_DATA,             ///< Appended on its own.
    checkpoint = WAL_KIND_CHECKPOINT, ///< A checkpoint.
    batch = WAL_KIND_BATCH,           ///< A member of an atomic batch; more members follow directly.
    batch_end = WAL_KIND_BATCH_END,   ///< The last member of an atomic batch.
};

/// A record that belongs to someone else: one that Records gave holds until the next call on them.
struct Record {
    Lsn lsn = 0;
    Kind kind = Kind::data;
    Bytes data;

    std::string_view text() const noexcept { return data.text(); }
};

namespace detail {

inline Record view(const wal_record_t& record) noexcept {
    return {record.lsn, static_cast<Kind>(record.kind), {record.data, record.len}};
}

/// Frees what C made.
struct Free {
    void operator()(wal_record_t* record) const noexcept { wal_record_free(record); }
    void operator()(wal_options_t* options) const noexcept { wal_options_free(options); }
    void operator()(wal_report_t* report) const noexcept { wal_report_free(report); }
};

} // namespace detail

/// A record that Log::read() gave, with its bytes. It does not depend on the log. Move-only; a moved-from one is empty.
class OwnedRecord : public Record {
public:
    /// Takes over a record of wal_read().
    explicit OwnedRecord(wal_record_t* record) noexcept : Record(detail::view(*record)), owned_(record) {}
    OwnedRecord(OwnedRecord&& other) noexcept
        : Record(std::exchange(static_cast<Record&>(other), Record())), owned_(std::move(other.owned_)) {}
    OwnedRecord& operator=(OwnedRecord&& other) noexcept {
        // By way of a third: the assignment to itself keeps its bytes.
        OwnedRecord moved(std::move(other));
        std::swap(static_cast<Record&>(*this), static_cast<Record&>(moved));
        owned_.swap(moved.owned_);
        return *this;
    }

private:
    std::unique_ptr<wal_record_t, detail::Free> owned_;
};

/// The records of a log in order, up to where the log ended when they were asked for. Made by Log::records(). They hold
/// also when the log is closed and destroyed. One thread at a time. Move-only; iterators into a moved one are invalid.
///
///     for (const wal::Record& record : log.records()) ...                      // throws if reading fails
///     while (auto record = records.next().value()) use(record->text());        // the same
///     for (;;) { auto record = records.next(); if (!record.ok() || !*record) break; ... }
///
/// A loop that was left in the middle is taken up by the next one, behind the record it had reached.
class Records {
public:
    /// A single pass. `++` and begin() read the next record, and throw Exception if that fails: a failure is never
    /// taken for the end.
    class Iterator {
    public:
        using iterator_category = std::input_iterator_tag;
        using value_type = Record;
        using difference_type = std::ptrdiff_t;
        using pointer = const Record*;
        using reference = const Record&;

        Iterator() noexcept = default;
        reference operator*() const noexcept { return records_->current_; }
        pointer operator->() const noexcept { return &records_->current_; }
        Iterator& operator++() {
            const std::optional<Record> next = records_->next().value();
            if (next) records_->current_ = *next;
            else records_ = nullptr;
            return *this;
        }
        void operator++(int) { ++*this; }
        friend bool operator==(Iterator a, Iterator b) noexcept { return a.records_ == b.records_; }
        friend bool operator!=(Iterator a, Iterator b) noexcept { return a.records_ != b.records_; }

    private:
        friend class Records;
        explicit Iterator(Records* records) noexcept : records_(records) {}
        Records* records_ = nullptr;
    };

    /// Takes over an iterator of wal.h.
    explicit Records(wal_iter_t* handle) noexcept : handle_(handle) {}
    Records(Records&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)), ended_(other.ended_) {}
    Records& operator=(Records&& other) noexcept {
        Records moved(std::move(other));
        std::swap(handle_, moved.handle_);
        std::swap(ended_, moved.ended_);
        return *this;
    }
    ~Records() { wal_iter_close(handle_); }

    Iterator begin() { return ++Iterator(this); }
    Iterator end() noexcept { return Iterator(); }

    /// The next record, or nullopt at the end. wal_iter_next().
    Result<std::optional<Record>> next() {
        return read([&](wal_record_t* out) { return wal_iter_next(handle_, out); });
    }
    /// The next record, also beyond the end: waits up to `timeout` for one to be appended; nullopt: none came, or none can
    /// any more, which ended() tells. It may not be durable yet. wal_iter_follow().
    Result<std::optional<Record>> follow(std::chrono::milliseconds timeout) {
        return follow_for(detail::limit(timeout));
    }
    /// The same for as long as it takes: nullopt only where none can come any more.
    Result<std::optional<Record>> follow() { return follow_for(-1); }
    /// Whether follow() has found that nothing can come any more: the log was this process's to write and is closed, or
    /// reading failed.
    bool ended() const noexcept { return ended_; }
    /// Moves the end to where the log ends now; whether there may be more to read. wal_iter_refresh().
    Result<bool> refresh() { return detail::whether(wal_iter_refresh(handle_)); }
    /// Where they stand. wal_iter_position().
    Result<Lsn> position() const {
        return detail::out<Lsn>([&](Lsn* lsn) { return wal_iter_position(handle_, lsn); });
    }

    /// For wal.h; it stays theirs.
    wal_iter_t* handle() const noexcept { return handle_; }

private:
    Result<std::optional<Record>> follow_for(std::int64_t timeout) {
        return read([&](wal_record_t* out) {
            const int code = wal_iter_follow(handle_, timeout, out);
            ended_ = code == WAL_END;
            return code;
        });
    }
    template <class Call>
    Result<std::optional<Record>> read(Call&& call) {
        wal_record_t record{};
        const int code = call(&record);
        if (code < 0) return detail::last_error();
        if (code != WAL_OK) return std::optional<Record>();
        return std::optional<Record>(detail::view(record));
    }

    wal_iter_t* handle_;
    bool ended_ = false;
    Record current_; // What all copies of an Iterator show.
};

/// What is done about damage.
enum class Recovery : int {
    strict = WAL_RECOVERY_STRICT,   ///< A torn tail is cut; damage of acknowledged data is Code::corrupt.
    salvage = WAL_RECOVERY_SALVAGE, ///< Opens for reading only and reads around damage, which Log::damage() lists.
};

/// How a log is opened. A value: copied, kept, used for any number of logs. Each option is described in wal.h at
/// wal_options_set_...(); a value outside its domain is refused by Log::open().
///
///     wal::Log::open("dir", wal::Options().segment_size(16 << 20).create(false))
class Options {
public:
    Options& segment_size(std::uint64_t bytes) { return set<wal_options_set_segment_size>(bytes); }
    Options& buffer_size(std::uint64_t bytes) { return set<wal_options_set_buffer_size>(bytes); }
    Options& shared_buffer(bool shared) { return set<wal_options_set_shared_buffer>(shared); }
    Options& max_record_size(std::uint64_t bytes) { return set<wal_options_set_max_record_size>(bytes); }
    Options& recycle(std::size_t segments) { return set<wal_options_set_recycle>(segments); }
    Options& retention_none() { return set<none>(0); }
    Options& retention_bytes(std::uint64_t bytes) { return set<wal_options_set_retention_bytes>(bytes); }
    Options& retention_segments(std::uint64_t segments) { return set<wal_options_set_retention_segments>(segments); }
    Options& retain_checkpoint(bool retain) { return set<wal_options_set_retain_checkpoint>(retain); }
    /// 0, and less, never syncs.
    Options& sync_interval(std::chrono::milliseconds interval) {
        return set<wal_options_set_sync_interval>(static_cast<std::uint64_t>(detail::limit(interval)));
    }
    Options& background(bool background) { return set<wal_options_set_background>(background); }
    Options& read_only(bool read_only) { return set<wal_options_set_read_only>(read_only); }
    Options& create(bool create) { return set<wal_options_set_create>(create); }
    Options& recovery(Recovery recovery) { return set<wal_options_set_recovery>(static_cast<std::uint64_t>(recovery)); }
    Options& first_lsn(Lsn lsn) { return set<wal_options_set_first_lsn>(lsn); }

private:
    friend class Log;

    static int none(wal_options_t* options, std::uint64_t) { return wal_options_set_retention_none(options); }

    template <class T>
    static T argument(int (*)(wal_options_t*, T));

    /// Kept, not done: C's options cannot be copied.
    template <auto function>
    Options& set(std::uint64_t value) {
        using Argument = decltype(argument(function));
        settings_.push_back({[](wal_options_t* options, std::uint64_t to) {
            return function(options, static_cast<Argument>(to));
        }, value});
        return *this;
    }

    struct Setting {
        int (*apply)(wal_options_t*, std::uint64_t);
        std::uint64_t value;
    };
    std::vector<Setting> settings_;
};

/// A path as the operating system takes it. The bytes of a text are passed on as they are (on Windows they are UTF-8).
class Path {
public:
    Path(const char* path) : text_(path != nullptr ? path : "") {}
    Path(std::string path) : text_(std::move(path)) {}
#if defined(_WIN32)
    Path(const std::filesystem::path& path) {
        for (const auto unit : path.u8string()) text_.push_back(static_cast<char>(unit));
    }
#else
    Path(const std::filesystem::path& path) : text_(path.native()) {}
#endif

    const std::string& text() const noexcept { return text_; }

private:
    std::string text_;
};

namespace detail {

inline Error refused(Code code, std::string message) { return Error{code, code, 0, std::nullopt, std::move(message)}; }

/// What every use of the library begins with: a path for C, which would take one with a NUL inside for a shorter one
/// (and itself refuses an empty one), once it is sure that the library is the one that wal.h describes.
inline Result<const char*> c_path(const Path& path) {
    const auto abi = wal_abi_version();
    if (abi != WAL_ABI_VERSION) {
        return refused(Code::unsupported_version, std::string("libwal ") + wal_version() + " has ABI " +
            std::to_string(abi) + ", and the program was compiled for ABI " + std::to_string(WAL_ABI_VERSION));
    }
    if (path.text().find('\0') == std::string::npos) return path.text().c_str();
    return refused(Code::invalid_argument, "invalid argument: there is a NUL in the path");
}

} // namespace detail

/// A range of the stream that was once acknowledged and cannot be read.
struct Damage {
    Lsn from;           ///< Where it begins.
    Lsn to;             ///< Where reading goes on.
    std::string path;   ///< The file in which it begins.
    std::string reason; ///< What does not fit there.
};

/// A file of a log that is not what it should be.
struct FileDamage {
    std::string path;
    std::string reason;
};

/// What verify() or repair() found.
struct Report {
    Lsn head;                      ///< The first position of the log.
    Lsn tail;                      ///< Its end.
    std::uint64_t segments;        ///< How many it has, those prepared ahead included.
    std::uint64_t records;         ///< How many valid ones it holds, the log's own not counted.
    std::uint64_t payload_bytes;   ///< How many bytes their payloads have.
    bool closed_cleanly;
    std::optional<Lsn> checkpoint; ///< The last valid checkpoint record.
    std::optional<Lsn> torn_tail;  ///< The end of the log if bytes that were never acknowledged follow it.
    std::vector<FileDamage> files; ///< Missing, of another log, of a wrong length, or with a damaged header.
    std::vector<Damage> damage;    ///< What was acknowledged and cannot be read.

    bool sound() const noexcept { return files.empty() && damage.empty(); }
};

/// wal_stats_t as it is in wal.h. Its `checkpoint` is WAL_NO_LSN if there is none.
using Stats = wal_stats_t;

namespace detail {

template <class Call>
Result<Report> report(Call&& call) {
    wal_report_t* out = nullptr;
    if (call(&out) < 0) return last_error();
    const std::unique_ptr<wal_report_t, Free> found(out);
    std::vector<FileDamage> files;
    for (std::size_t n = 0; n < found->file_count; ++n) files.push_back({found->files[n].path, found->files[n].reason});
    std::vector<Damage> damage;
    for (std::size_t n = 0; n < found->damage_count; ++n) {
        const wal_damage_t& row = found->damage[n];
        damage.push_back({row.from, row.to, row.path, row.reason});
    }
    return Report{found->head, found->tail, found->segments, found->records, found->payload_bytes,
        found->closed_cleanly != 0, optional(found->checkpoint), optional(found->torn_tail), std::move(files),
        std::move(damage)};
}

/// What C calls. The callable is freed after it was called. `noexcept`: nothing may be thrown through the library.
template <class Done>
void done(void* context, int code, Lsn lsn) noexcept {
    const std::unique_ptr<Done> callable(static_cast<Done*>(context));
    if (code == WAL_OK) std::invoke(std::move(*callable), Result<Lsn>(lsn));
    else std::invoke(std::move(*callable), Result<Lsn>(last_error()));
}

/// Hands a callable, or nullptr, over to `call`, which takes a function and a context and returns a code. If that is an
/// error, C does not call back, and the callable is freed here; otherwise it belongs to done(), which may be over by
/// then.
template <class F, class Call>
int hand_over(F&& callable, Call&& call) {
    using Done = std::decay_t<F>;
    if constexpr (std::is_null_pointer_v<Done>) {
        return call(nullptr, nullptr);
    } else {
        static_assert(std::is_invocable_v<Done&&, Result<Lsn>>, "the callable takes a wal::Result<wal::Lsn>");
        auto owned = std::make_unique<Done>(std::forward<F>(callable));
        const int code = call(&done<Done>, static_cast<void*>(owned.get()));
        if (code >= 0) static_cast<void>(owned.release());
        return code;
    }
}

} // namespace detail

/// A log that is open. Any number of threads may use it at once, and close it; only a move and the destructor need it
/// alone. Move-only. The destructor closes it, and nobody hears of a failure: call close().
class Log {
public:
    /// Opens the log in the directory `dir`, or creates it, and recovers it first. What is found is durable on return.
    /// Code::unsupported_version also if the library that is loaded has another ABI than wal.h. wal_open().
    static Result<Log> open(const Path& dir, const Options& options = Options()) {
        const auto path = detail::c_path(dir);
        if (!path) return path.error();
        const std::unique_ptr<wal_options_t, detail::Free> made(wal_options_new());
        if (!made) return detail::last_error();
        for (const auto& setting : options.settings_) {
            if (setting.apply(made.get(), setting.value) < 0) return detail::last_error();
        }
        return detail::out<Log, wal_t*>([&](wal_t** log) { return wal_open(*path, made.get(), log); });
    }

    /// Takes over a log of wal_open().
    explicit Log(wal_t* handle) noexcept : handle_(handle) {}
    Log(Log&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Log& operator=(Log&& other) noexcept {
        Log moved(std::move(other));
        std::swap(handle_, moved.handle_);
        return *this;
    }
    ~Log() { if (handle_ != nullptr) wal_close(handle_); }

    /// Makes everything durable, records that the log was closed cleanly, and makes the calls that are outstanding; if
    /// one of those closes the log, the others are made after it returns.
    /// Closed whatever it returns. Other threads may be inside calls: theirs succeed or are Code::closed. wal_close().
    Result<void> close() { return detail::result(wal_close(handle_)); }
    // The handle stays, for other threads may be reading it. The library knows it as closed, also the second time.

    /// Appends a record; the bytes must not change during the call. Survives the process where the buffer does, else after flush();
    /// power loss after sync().
    /// wal_append().
    Result<Lsn> append(Bytes record) { return append(wal_append, record); }
    /// The same if that needs no waiting; otherwise Code::full. wal_try_append().
    Result<Lsn> try_append(Bytes record) { return append(wal_try_append, record); }
    /// Appends a record; durable on return, with everything appended before. wal_append_and_sync().
    Result<Lsn> append_and_sync(Bytes record) { return append(wal_append_and_sync, record); }

    /// Appends records, all of which are in the log after a crash, or none. `records` is any range of what Bytes are
    /// made from. As durable as append(). wal_append_batch().
    template <class Range>
    Result<std::vector<Lsn>> append_batch(const Range& records) {
        using Member = decltype(*std::begin(records));
        static_assert(std::is_lvalue_reference_v<Member> || std::is_same_v<std::decay_t<Member>, Bytes> ||
            std::is_same_v<std::decay_t<Member>, std::string_view>, "the range makes its members: they would not last");
        std::vector<wal_slice_t> slices;
        for (auto&& record : records) {
            const Bytes bytes = record;
            slices.push_back({bytes.data(), bytes.size()});
        }
        std::vector<Lsn> lsns(slices.size());
        if (wal_append_batch(handle_, slices.data(), slices.size(), lsns.data()) < 0) return detail::last_error();
        return lsns;
    }
    Result<std::vector<Lsn>> append_batch(std::initializer_list<Bytes> records) {
        return append_batch<std::initializer_list<Bytes>>(records);
    }

    /// Hands what was appended before to the operating system: it survives this process. wal_flush().
    Result<void> flush() { return detail::result(wal_flush(handle_)); }
    /// Makes what was appended before durable: it survives power loss. wal_sync().
    Result<void> sync() { return detail::result(wal_sync(handle_)); }
    /// The same up to and including the record at `lsn`. wal_sync_to().
    Result<void> sync_to(Lsn lsn) { return detail::result(wal_sync_to(handle_, lsn)); }
    /// Waits up to `timeout` until the record at `lsn` was made durable by others; whether it is. wal_wait_durable().
    Result<bool> wait_durable(Lsn lsn, std::chrono::milliseconds timeout) {
        return detail::whether(wal_wait_durable(handle_, lsn, detail::limit(timeout)));
    }
    /// The same for as long as it takes.
    Result<void> wait_durable(Lsn lsn) { return detail::result(wal_wait_durable(handle_, lsn, -1)); }

    /// Appends a record and returns its LSN at once. `done`, any callable that takes a Result<Lsn>, also a move-only
    /// one, is called once: with the LSN when the record is durable, or with the failure; perhaps before this returns,
    /// and at the latest before close() does, or after the `done` that closes the log has returned. It is called, and
    /// destroyed, on a thread of the log's own, and keeps the others waiting. An exception that leaves it ends the program
    /// (std::terminate). If this fails, `done` is destroyed without being called. Without `done`, event_fd() tells.
    /// wal_append_async().
    template <class Done = std::nullptr_t>
    Result<Lsn> append_async(Bytes record, Done&& done = nullptr) {
        return detail::out<Lsn>([&](Lsn* lsn) {
            return detail::hand_over(std::forward<Done>(done), [&](wal_done_fn function, void* context) {
                return wal_append_async(handle_, record.data(), record.size(), function, context, lsn);
            });
        });
    }
    /// Appends a record; the future has its LSN once it is durable, or the failure, and never an exception. Its
    /// destructor does not wait. A callable of this log that waits for it waits for ever.
    std::future<Result<Lsn>> commit(Bytes record) {
        std::promise<Result<Lsn>> promise;
        auto future = promise.get_future();
        const auto appended = append_async(record, [promise = std::move(promise)](Result<Lsn> result) mutable {
            promise.set_value(std::move(result));
        });
        if (appended) return future;
        std::promise<Result<Lsn>> failed;
        failed.set_value(appended.error());
        return failed.get_future();
    }
    /// Makes what was appended before durable; `done`, as for append_async(), gets the position below which everything
    /// is durable then. That the log is poisoned is told to `done`. wal_sync_async().
    template <class Done = std::nullptr_t>
    Result<void> sync_async(Done&& done = nullptr) {
        return detail::result(detail::hand_over(std::forward<Done>(done), [&](wal_done_fn function, void* context) {
            return wal_sync_async(handle_, function, context);
        }));
    }
    /// Makes the record at `lsn` durable, and tells `done`, as for append_async(). wal_when_durable().
    template <class Done = std::nullptr_t>
    Result<void> when_durable(Lsn lsn, Done&& done = nullptr) {
        return detail::result(detail::hand_over(std::forward<Done>(done), [&](wal_done_fn function, void* context) {
            return wal_when_durable(handle_, lsn, function, context);
        }));
    }
    /// A descriptor for poll() that becomes readable when something asked for by these calls is done. It belongs to the
    /// log, which closes it in close(). How to use it in a loop is said at wal_event_fd().
    Result<int> event_fd() { return detail::out<int>([&](int* fd) { return wal_event_fd(handle_, fd); }); }
    /// Makes that descriptor unreadable until the next is done. wal_event_clear().
    Result<void> event_clear() { return detail::result(wal_event_clear(handle_)); }

    /// Appends a checkpoint, durable on return, that records_from_checkpoint() begins with. Everything that `state`
    /// does not contain must be appended after this call. wal_checkpoint().
    Result<Lsn> checkpoint(Bytes state) { return append(wal_checkpoint, state); }
    /// The last durable checkpoint, if there is one that was not truncated away. wal_last_checkpoint().
    Result<std::optional<Lsn>> last_checkpoint() const {
        Lsn lsn = 0;
        const int code = wal_last_checkpoint(handle_, &lsn);
        if (code < 0) return detail::last_error();
        return code == WAL_OK ? std::optional<Lsn>(lsn) : std::nullopt;
    }
    /// Drops the records below `lsn`, as far as they fill whole segments and are durable. wal_truncate_before().
    Result<void> truncate_before(Lsn lsn) { return detail::result(wal_truncate_before(handle_, lsn)); }

    /// The position below which everything is durable. wal_durable_lsn().
    Result<Lsn> durable() const { return detail::out<Lsn>([&](Lsn* lsn) { return wal_durable_lsn(handle_, lsn); }); }
    /// The position of the first record that can be read. wal_head().
    Result<Lsn> head() const { return detail::out<Lsn>([&](Lsn* lsn) { return wal_head(handle_, lsn); }); }
    /// The end of the log. wal_tail().
    Result<Lsn> tail() const { return detail::out<Lsn>([&](Lsn* lsn) { return wal_tail(handle_, lsn); }); }

    /// The record at `lsn`, with its bytes. wal_read().
    Result<OwnedRecord> read(Lsn lsn) const {
        return detail::out<OwnedRecord, wal_record_t*>([&](wal_record_t** out) { return wal_read(handle_, lsn, out); });
    }
    /// All records, those appended before included. wal_iter_from_head().
    Result<Records> records() const {
        return detail::out<Records, wal_iter_t*>([&](wal_iter_t** out) { return wal_iter_from_head(handle_, out); });
    }
    /// The records from the one at `from` on, which may also be the end of the log. wal_iter().
    Result<Records> records(Lsn from) const {
        return detail::out<Records, wal_iter_t*>([&](wal_iter_t** out) { return wal_iter(handle_, from, out); });
    }
    /// The records from the last durable checkpoint on, itself included; all if there is none.
    /// wal_iter_from_checkpoint().
    Result<Records> records_from_checkpoint() const {
        return detail::out<Records, wal_iter_t*>(
            [&](wal_iter_t** out) { return wal_iter_from_checkpoint(handle_, out); });
    }

    /// What the log has done since it was opened. wal_stats().
    Result<Stats> stats() const {
        return detail::out<Stats>([&](Stats* stats) { return wal_stats(handle_, stats, sizeof *stats); });
    }
    /// What a log opened with Recovery::salvage passes over: the report's `damage`. wal_damage().
    Result<Report> damage() const {
        return detail::report([&](wal_report_t** found) { return wal_damage(handle_, found); });
    }

    /// For wal.h; it stays this log's.
    wal_t* handle() const noexcept { return handle_; }

private:
    Result<Lsn> append(int (*call)(wal_t*, const void*, std::size_t, Lsn*), Bytes record) {
        return detail::out<Lsn>([&](Lsn* lsn) { return call(handle_, record.data(), record.size(), lsn); });
    }

    wal_t* handle_;
};

/// Called by verify() with how many bytes were checked, of how many; from several threads at once. An exception that
/// leaves it ends the program (std::terminate).
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

/// Checks every byte of the log in `dir` with `threads` threads and changes nothing. Damage is no error: it is in the
/// report. wal_verify().
inline Result<Report> verify(const Path& dir, std::size_t threads = 1, const Progress& progress = nullptr) {
    const auto path = detail::c_path(dir);
    if (!path) return path.error();
    const wal_progress_fn call = [](void* context, std::uint64_t done, std::uint64_t total) noexcept {
        (*static_cast<const Progress*>(context))(done, total);
    };
    return detail::report([&](wal_report_t** found) {
        return wal_verify(*path, threads, progress ? call : nullptr, const_cast<Progress*>(&progress), found);
    });
}

/// Mends the log in `dir`, which must be closed, after it copied the damaged bytes to `keep`, which must be empty or
/// not exist. The report says what was found. Durable on return. wal_repair().
inline Result<Report> repair(const Path& dir, const Path& keep) {
    const auto path = detail::c_path(dir), keep_path = detail::c_path(keep);
    if (!path) return path.error();
    if (!keep_path) return keep_path.error();
    return detail::report([&](wal_report_t** found) { return wal_repair(*path, *keep_path, found); });
}

} // namespace wal

#endif // WAL_HPP
