//! The digest service as a domain of its own; or, built for Linux, as a plain process for debugging.
//!
//! ```text
//! digest [--once]                        in a domain: the words of its command line
//! casemate-digest DOMID [--once]         on Linux: plays that hosted domain
//! ```
//! `--once` serves one client and exits: 0 if it ended as it should, 1 if not.
#![cfg_attr(casemate, no_std, no_main)]

use digest_service::{NAME, listen_config, serve};

service::server!(NAME, listen_config(), serve);
