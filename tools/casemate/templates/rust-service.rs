//! @NAME@: a service in a domain of its own. It answers each message in capitals.
//!
//! `casemate run .` boots it as a domain. `casemate run --hosted . -- 7` runs the same service as a Linux process
//! that plays domain 7, for debugging. Each client has a thread; one that breaks the protocol loses its channel, and the
//! service goes on.
#![cfg_attr(casemate, no_std, no_main)]

use idc::{Channel, Error, ListenConfig};

// The name under which other domains find it, its places for clients, and what it does for each.
service::server!("@NAME@", ListenConfig::default(), serve);

/// Serves one client until it ends the channel, and counts its messages.
fn serve(client: &mut Channel, served: &mut u64) -> Result<(), Error> {
    while let Some(message) = client.recv()? {
        client.send(&message.to_ascii_uppercase())?;
        *served += 1;
    }
    client.finish()
}
