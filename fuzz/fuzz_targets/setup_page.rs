//! A setup page: what is taken is within its limits, and says the same when it is written again.
#![no_main]

use idc::setup::{MAX_PAGES, MAX_POOL, PAGE_SIZE, Setup, features};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut page = [0; PAGE_SIZE];
    for (to, from) in page.iter_mut().zip(data) {
        *to = *from;
    }
    let Ok(setup) = Setup::decode(&page) else { return };
    assert!((1..=MAX_PAGES).contains(&setup.data_refs.len()) && setup.pool_refs.len() <= MAX_POOL);
    assert!(setup.slots == 0 || setup.slot() * setup.slots == setup.capacity());
    assert_eq!(setup.port.is_none(), setup.features & features::SHARED_PORT != 0);
    assert_eq!(Setup::decode(&setup.encode()), Ok(setup));
});
