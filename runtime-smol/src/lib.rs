//! Roomcast on smol: to become the mirror of `roomcast-tokio`, file for file.
//!
//! It is empty so far. Everything that belongs to no runtime is in `roomcast-core` and `roomcast-shell`; what comes here is a
//! listener, a socket as `roomcast_shell::transport::Transport`, a timer, the lanes to Redis and the HTTP glue.
#![forbid(unsafe_code)]
