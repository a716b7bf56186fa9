#include "redis/layout.hpp"

#include <algorithm>
#include <iterator>

#include "redis/client.hpp"
#include "redis/json_text.hpp"

namespace cache_ext::redis {

namespace {

constexpr std::string_view kTagNamespace = "tag:";

void append_texts(std::string& json, const std::vector<std::string>& texts) {
    json += '[';
    for (const std::string& text : texts) {
        if (json.back() != '[') json += ", ";
        append_json_text(json, text);
    }
    json += ']';
}

void move_to(std::vector<std::string>& to, std::vector<std::string>& from) {
    to.insert(to.end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
    from.clear();
}

void deduplicate(std::vector<std::string>& texts) {
    std::sort(texts.begin(), texts.end());
    texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
}

/// A key that a cluster keeps where that one is.
std::string beside(const std::string& key, std::string_view what) {
    // What a cluster hashes of its name: the part within the first braces, if there is one.
    const std::size_t open = key.find('{');
    const std::size_t close = open == std::string::npos ? open : key.find('}', open + 1);
    const bool has_tag = close != std::string::npos && close > open + 1;
    const std::string home = has_tag ? key.substr(open + 1, close - open - 1) : key;
    std::string beside = "{" + home + "}:";
    // What ends a tag cannot be in one: then some number that happens to belong there.
    for (int i = 0; home.find('}') != std::string::npos; ++i) {
        const std::string number = std::to_string(i);
        if (slot_of(number) != slot_of(key)) continue;
        beside.clear();
        beside.append("{").append(number).append("}:").append(key).append(":");
        break;
    }
    return beside.append(what);
}

}  // namespace

bool Layout::owns(std::string_view full_key) const noexcept {
    if (!full_key.starts_with(prefix)) return false;
    const std::string_view key = full_key.substr(prefix.size());
    return std::any_of(namespaces.begin(), namespaces.end(),
                       [key](const std::string& each) { return !each.empty() && key.starts_with(each); });
}

std::string Layout::tag_set(std::string_view tag) const {
    return prefix + std::string(kTagNamespace) + std::string(tag);
}

std::string Layout::sequence_key() const {
    return beside(stream_key(), "sequence") + ":" + origin + ":" + database;
}

std::string Layout::sent_key(std::string_view queue) const {
    return beside(queue_key(queue), "sent") + ":" + origin + ":" + database;
}

std::string Layout::queue_fence_key(std::string_view queue) const {
    const std::string list = queue_key(queue);
    return beside(list, "fence")
        .append(":")
        .append(origin)
        .append(":")
        .append(database)
        .append(":")
        .append(list);
}

std::string Layout::taken_key(std::string_view queue, std::string_view taker) const {
    const std::string list = queue_key(queue);
    // Lists with the same tag have hashes of their own nevertheless.
    return beside(list, "taken").append(":").append(taker).append(":").append(list);
}

void Notice::merge(Notice&& other) {
    move_to(keys, other.keys);
    move_to(tags, other.tags);
    move_to(patterns, other.patterns);
    everything = everything || other.everything;
}

void Notice::deduplicate() {
    redis::deduplicate(keys);
    redis::deduplicate(tags);
    redis::deduplicate(patterns);
}

std::string to_json(const Notice& notice, const Layout& layout, std::uint64_t sequence,
                    std::string_view time) {
    std::string json = "{\"origin\": ";
    append_json_text(json, layout.origin);
    json += ", \"database\": ";
    append_json_text(json, layout.database);
    json += ", \"sequence\": " + std::to_string(sequence) + ", \"time\": ";
    append_json_text(json, time);
    json += ", \"keys\": ";
    append_texts(json, notice.keys);
    json += ", \"tags\": ";
    append_texts(json, notice.tags);
    json += ", \"patterns\": ";
    append_texts(json, notice.patterns);
    json += ", \"all\": ";
    json += notice.everything ? "true" : "false";
    return json += '}';
}

std::string escape_glob(std::string_view text) {
    std::string glob;
    for (const char c : text) {
        if (c == '*' || c == '?' || c == '[' || c == ']' || c == '\\') glob += '\\';
        glob += c;
    }
    return glob;
}

}  // namespace cache_ext::redis
