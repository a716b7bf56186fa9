// Copies that may race with a writer.
//
// An optimistic reader copies bytes that a writer may be overwriting, then looks at a version and throws
// the copy away if it has moved (the idea of P1478, "byte-wise atomic memcpy"). C++20 has no such call, and
// a plain memcpy is a data race by the letter. So the intent is declared here: under ThreadSanitizer the
// copy is made of relaxed atomic accesses, and any other access that races is still reported; in
// every other build it is a memcpy, which no supported compiler tears into anything but reads of these bytes.
//
// The copies order nothing. The reader calls acquire_fence() between the copy and the second look at the
// version, the writer release_fence() between raising the version and the first store.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__SANITIZE_THREAD__)
#define CACHE_EXT_DECLARE_RACES 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CACHE_EXT_DECLARE_RACES 1
#endif
#endif

namespace cache_ext::core {

// ThreadSanitizer does not model fences, and g++ warns of that. It need not: what they order here are atomic
// accesses, which are no races with or without them.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
inline void acquire_fence() noexcept { std::atomic_thread_fence(std::memory_order_acquire); }
inline void release_fence() noexcept { std::atomic_thread_fence(std::memory_order_release); }
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

// One field of at most 8 bytes that other threads or processes may change at the same time. The value is
// some value once stored, never a mixture.
template <class T>
[[nodiscard]] inline T load_relaxed(const T& field) noexcept {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
    T value;
    __atomic_load(&field, &value, __ATOMIC_RELAXED);
    return value;
}

template <class T>
inline void store_relaxed(T& field, std::type_identity_t<T> value) noexcept {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8);
    __atomic_store(&field, &value, __ATOMIC_RELAXED);
}

namespace detail {

// Word by word where source and destination are aligned alike, byte by byte at the edges and elsewhere.
// `kLoadSide` says which of the two is the shared side.
template <bool kLoadSide>
inline void copy_declared(unsigned char* dst, const unsigned char* src, std::size_t n) noexcept {
    const unsigned char* shared = kLoadSide ? src : dst;
    auto copy_byte = [&] {
        if constexpr (kLoadSide) {
            *dst = __atomic_load_n(src, __ATOMIC_RELAXED);
        } else {
            __atomic_store_n(dst, *src, __ATOMIC_RELAXED);
        }
        ++dst, ++src, ++shared, --n;
    };
    while (n > 0 && reinterpret_cast<std::uintptr_t>(shared) % 8 != 0)
        copy_byte();
    while (n >= 8) {
        std::uint64_t word;
        if constexpr (kLoadSide) {
            word = __atomic_load_n(reinterpret_cast<const std::uint64_t*>(src), __ATOMIC_RELAXED);
            std::memcpy(dst, &word, 8);
        } else {
            std::memcpy(&word, src, 8);
            __atomic_store_n(reinterpret_cast<std::uint64_t*>(dst), word, __ATOMIC_RELAXED);
        }
        dst += 8, src += 8, shared += 8, n -= 8;
    }
    while (n > 0)
        copy_byte();
}

}  // namespace detail

// Copies `n` bytes out of shared memory that may be overwritten meanwhile. The bytes mean nothing until
// the caller has validated the version they belong to. `dst` is private and does not overlap `src`.
inline void racy_copy(void* dst, const void* src, std::size_t n) noexcept {
    if (n == 0) return;
#ifdef CACHE_EXT_DECLARE_RACES
    detail::copy_declared<true>(static_cast<unsigned char*>(dst), static_cast<const unsigned char*>(src), n);
#else
    std::memcpy(dst, src, n);
#endif
}

// Copies `n` private bytes into shared memory that optimistic readers may be reading. Writers exclude one
// another by other means.
inline void racy_store(void* dst, const void* src, std::size_t n) noexcept {
    if (n == 0) return;
#ifdef CACHE_EXT_DECLARE_RACES
    detail::copy_declared<false>(static_cast<unsigned char*>(dst), static_cast<const unsigned char*>(src), n);
#else
    std::memcpy(dst, src, n);
#endif
}

// Whether `n` bytes of shared memory that may be overwritten meanwhile equal `n` private ones. As with a copy,
// the answer means nothing until the version has been validated.
inline bool racy_equal(const void* shared, const void* own, std::size_t n) noexcept {
#ifdef CACHE_EXT_DECLARE_RACES
    for (std::size_t i = 0; i < n; ++i) {
        const auto* at = static_cast<const unsigned char*>(shared) + i;
        if (__atomic_load_n(at, __ATOMIC_RELAXED) != static_cast<const unsigned char*>(own)[i]) return false;
    }
    return true;
#else
    return std::memcmp(shared, own, n) == 0;
#endif
}

}  // namespace cache_ext::core
