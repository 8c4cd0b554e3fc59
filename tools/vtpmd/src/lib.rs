//! The Linux side of the vTPM.
//!
//! | subcommand | where | what |
//! |---|---|---|
//! | `vtpmd guest` | the user domain | [`guest`]: IDC A to the vTPM domain, `/dev/tpm0` through the kernel's `tpm_vtpm_proxy` |
//! | `vtpmd proxy` | dom0 | [`proxy`]: IDC A to the vTPM domain, sockets that speak swtpm's or the simulator's protocol |
//! | `vtpmd manager` | dom0 | [`manager`]: IDC B for all vTPM domains; ciphertext, leases, keys |
//! | `vtpmd instance` | dom0 | [`cli`]: the lifecycle of instances ([`lifecycle`]), and what is kept of them ([`registry`]) |

pub mod cli;
pub mod client;
pub mod device;
pub mod files;
pub mod guest;
pub mod hardware;
pub mod key;
pub mod lifecycle;
pub mod manager;
pub mod measure;
pub mod place;
pub mod proxy;
pub mod registry;

use std::path::Path;

use idc::{DomId, HostedConfig, Idc};

/// Opens IDC: Xen's, or that of a directory of hosted processes, there with a fixed domain id or any.
///
/// # Errors
/// IDC's.
pub fn open_idc(hosted: Option<&Path>, domid: Option<u16>) -> idc::Result<Idc> {
    match hosted {
        None => Idc::open(),
        Some(directory) => {
            let config = domid.map_or_else(HostedConfig::any, |domid| HostedConfig::new(DomId(domid)));
            Idc::hosted(config.directory(directory))
        }
    }
}
