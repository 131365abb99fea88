//! The whole relay, from the sending program to the simulated Microsoft 365.

mod apps;
mod bad_input;
mod bytes;
mod clients;
mod command_line;
mod crash;
mod day_away;
mod delivery;
mod dkim;
mod grants;
mod interop;
mod letters;
mod machine;
mod oauth_errors;
mod protocol;
mod reload;
mod sendmail;
mod sign_in;
mod smart_hosts;
mod stop;
mod support;
mod tap;
mod tls;
mod upstream;
