#include "pg/elsewhere.hpp"

#include "core/store.hpp"
#include "pg/redis_settings.hpp"
#include "pg/transaction.hpp"

namespace cache_ext::pg {

namespace {

/// A glob as it is being made. What is too long for a key's pattern ends with a star where the room does, and so means more.
class Glob {
public:
    void append(char c) noexcept {
        if (bytes_ < core::kMaxKeyBytes - 1)
            text_[bytes_++] = c;
        else
            is_cut_ = true;
    }
    /// Takes a text as it is.
    void append_literal(std::string_view text) noexcept {
        for (const char c : text) {
            if (std::strchr("*?[]\\", c) == nullptr || c == '\0') {
                append(c);
            } else if (bytes_ + 2 < core::kMaxKeyBytes) {
                append('\\');
                append(c);
            } else {
                is_cut_ = true;
            }
            if (is_cut_) return;
        }
    }
    std::string_view finish() noexcept {
        if (is_cut_) text_[bytes_++] = '*';
        return {text_, bytes_};
    }

private:
    char text_[core::kMaxKeyBytes];
    std::size_t bytes_ = 0;
    bool is_cut_ = false;
};

}  // namespace

void invalidate_elsewhere(const core::Id128& space, const char* pattern, std::string_view place,
                          std::string_view name) {
    if (*pattern == '\0' || !pushes_to_redis()) return;
    Glob glob;
    std::string_view rest = pattern;
    while (!rest.empty()) {
        if (rest.starts_with(place)) {
            if (name.empty()) glob.append('*');
            glob.append_literal(name);
            rest.remove_prefix(place.size());
        } else {
            glob.append(rest.front());
            rest.remove_prefix(1);
        }
    }
    invalidate(InvalidationKind::kElsewhere, {{}, space, {}, false}, glob.finish());
}

}  // namespace cache_ext::pg
