//! A local SMTP relay that lets programs which only know "SMTP server and password" send through Microsoft 365.
//!
//! The picture and the invariants are in `ARCHITECTURE.md`.

#![forbid(unsafe_code)]

pub mod admin;
pub mod alert;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod identity;
pub mod import;
pub mod inbound;
pub mod journal;
pub mod lane;
pub mod message;
pub mod ops;
pub mod outbound;
pub mod own_mail;
pub mod password;
pub mod pickup;
pub mod registry;
pub mod relay;
pub mod report;
pub mod schedule;
pub mod service;
pub mod shelf;
pub mod signin;
pub mod simulator;
pub mod smtp;
pub mod store;
