//! The door as a whole: real listeners on loopback, and scripted connections where every packet is decided by the test.

mod dialogues;
mod documents;
mod harness;
mod identity;
mod logs;
mod proxied;
mod scripted;
mod sessions;
mod tls;
