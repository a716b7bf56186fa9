#pragma once

// How the cache's things lie in Redis, and what messages say.
//
// A key is `<prefix><key>`. A tag's keys are the members of the set `<prefix>tag:<tag>`, by their full names. Only keys that begin with one of the namespaces
// after the prefix are ever deleted; sets of tags are touched only where `tag:` is among the namespaces.
//
// A message is JSON: {"origin": …, "database": …, "sequence": n, "time": …, "keys": […], "tags": […], "patterns": […], "all": bool}.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cache_ext::redis {

struct Layout {
    std::string prefix;
    std::vector<std::string> namespaces;
    std::string channel;  ///< that messages are published on; empty: none are
    std::string stream;   ///< that they are kept in; empty: none are
    int stream_maxlen = 10000;
    std::string origin;    ///< the server
    std::string database;  ///< and the database in it, that messages are from

    /// Whether a key, by its full name, is one that may be deleted.
    [[nodiscard]] bool owns(std::string_view full_key) const noexcept;

    [[nodiscard]] std::string tag_set(std::string_view tag) const;

    /// Where the number of the last message of this origin and database is kept: in a cluster, where the stream is.
    [[nodiscard]] std::string sequence_key() const;
    [[nodiscard]] std::string stream_key() const { return prefix + stream; }

    /// The list of a queue, and beside it in a cluster: the set of what this origin and database has added to it and may add again.
    [[nodiscard]] std::string queue_key(std::string_view queue) const {
        return prefix + "queue:" + std::string(queue);
    }
    [[nodiscard]] std::string sent_key(std::string_view queue) const;
    /// Likewise: the number that whoever adds to it has to have at least.
    [[nodiscard]] std::string queue_fence_key(std::string_view queue) const;

    /// Beside the list, too: what a database has taken from it in transactions of which it is not known yet how they end. `taker`: the server and the database, by numbers that a
    /// new name does not change.
    [[nodiscard]] std::string taken_key(std::string_view queue, std::string_view taker) const;
    /// The queues from which a database has taken something of late.
    [[nodiscard]] std::string takings_key(std::string_view taker) const {
        return prefix + "cache_ext:taken:" + std::string(taker);
    }
};

/// What was invalidated. Names without the prefix, in UTF-8.
struct Notice {
    std::vector<std::string> keys;
    std::vector<std::string> tags;
    std::vector<std::string> patterns;  ///< globs over keys, as core/glob.hpp has them
    bool everything = false;

    [[nodiscard]] std::size_t names() const noexcept { return keys.size() + tags.size() + patterns.size(); }
    [[nodiscard]] bool empty() const noexcept { return names() == 0 && !everything; }
    /// Whether Redis' keys have to be looked through for it.
    [[nodiscard]] bool needs_scan() const noexcept { return everything || !patterns.empty(); }
    /// Takes the other one's names in.
    void merge(Notice&& other);
    /// Each name once.
    void deduplicate();
};

/// The message about a notice. `time` as JSON shows it: ISO 8601.
[[nodiscard]] std::string to_json(const Notice& notice, const Layout& layout, std::uint64_t sequence,
                                  std::string_view time);

/// The text as a glob of Redis that matches just it.
[[nodiscard]] std::string escape_glob(std::string_view text);

}  // namespace cache_ext::redis
