#pragma once

// Writing to a socket whose other end is gone raises SIGPIPE, which ends a process that has not chosen to ignore it; and a library cannot choose
// for the process. Neither hiredis nor OpenSSL writes with MSG_NOSIGNAL.

#include <csignal>
#include <ctime>

namespace cache_ext::redis {

/// Takes away a SIGPIPE that is pending for this thread, which blocks it.
inline void discard_sigpipe() noexcept {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    const timespec at_once{};
    while (sigtimedwait(&pipe, nullptr, &at_once) == SIGPIPE) {
    }
}

/// While it lives, no SIGPIPE reaches the process from this thread. Free of charge where that is ignored already.
class NoSigpipe {
public:
    NoSigpipe() noexcept {
        struct sigaction action {};
        if (sigaction(SIGPIPE, nullptr, &action) != 0 || action.sa_handler == SIG_IGN) return;
        sigset_t pending;
        if (sigpending(&pending) != 0 || sigismember(&pending, SIGPIPE) == 1)
            return;  // somebody else's: it stays
        sigset_t pipe;
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        is_blocking_ = pthread_sigmask(SIG_BLOCK, &pipe, &before_) == 0;
    }
    NoSigpipe(const NoSigpipe&) = delete;
    NoSigpipe& operator=(const NoSigpipe&) = delete;
    ~NoSigpipe() {
        if (!is_blocking_) return;
        discard_sigpipe();
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

private:
    sigset_t before_{};
    bool is_blocking_ = false;
};

}  // namespace cache_ext::redis
