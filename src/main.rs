//! The command line of xoauth2-relay.

fn main() {}
