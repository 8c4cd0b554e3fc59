//! The echo service as a domain of its own; or, built for Linux, as a plain process for debugging.
//!
//! ```text
//! echo [--once]                        in a domain: the words of its command line
//! casemate-echo DOMID [--once]         on Linux: plays that hosted domain
//! ```
//! `--once` serves one client and exits: 0 if it ended as it should, 1 if not.
#![cfg_attr(casemate, no_std, no_main)]

use echo_service::{NAME, listen_config, serve};

service::server!(NAME, listen_config(), serve);
