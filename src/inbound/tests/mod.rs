//! The door as a whole: real listeners on loopback, and scripted connections where every packet is decided by the test.

mod dialogues;
mod documents;
mod harness;
mod scripted;
mod sessions;
