//! Text for the console without `core::fmt`, which would be the largest part of a small image; and the last
//! words of a dying domain.

use crate::arch::cell::Global;
use crate::arch::x86_64::{cpu, hypercall, traps};
use crate::mm;
use crate::sched;
use crate::xen::console;
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, Shutdown};

/// Writes text.
pub fn text(text: &str) {
    console::write(text.as_bytes());
}

/// Writes a number as `0x...`.
pub fn hex(value: u64) {
    let mut buffer = *b"0x0000000000000000";
    let digits = (16 - value.leading_zeros() as usize / 4).max(1);
    for (i, place) in buffer[2..2 + digits].iter_mut().enumerate() {
        *place = b"0123456789abcdef"[(value >> (4 * (digits - 1 - i)) & 15) as usize];
    }
    console::write(&buffer[..2 + digits]);
}

/// Writes a number in decimal.
pub fn decimal(mut value: u64) {
    let mut buffer = [0; 20];
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    console::write(&buffer[at..]);
}

/// From now on only the caller runs.
pub fn begin_last_words() {
    sched::steal();
    mm::steal();
    console::last_words();
}

/// What the application wants to be done at the end.
static AT_END: Global<Option<extern "C" fn()>> = Global::new(None);

/// See `libos_sys::libos_at_end`.
pub fn at_end(hook: extern "C" fn()) {
    AT_END.with(|at_end| *at_end = Some(hook));
}

/// Ends a report: shuts the domain down as crashed.
pub fn crash() -> ! {
    shutdown(SHUTDOWN_CRASH)
}

/// Ends the domain in good order.
pub fn power_off() -> ! {
    shutdown(SHUTDOWN_POWEROFF)
}

fn shutdown(reason: u32) -> ! {
    // Taken before it runs: an exception in it comes back here.
    if let Some(hook) = AT_END.with(Option::take) {
        hook();
    }
    console::drain();
    hypercall::op(&mut Shutdown { reason });
    cpu::halt()
}

/// Reports a panic with this message and ends the domain.
pub fn panic(message: &[u8]) -> ! {
    begin_last_words();
    text("panic: ");
    console::write(message);
    text("\n");
    traps::backtrace(None, cpu::frame_pointer());
    crash()
}

/// Reports a panic of the kernel itself. Only the place is printed: formatting messages would cost more than
/// the rest of the kernel.
#[cfg(not(test))]
#[panic_handler]
fn kernel_panic(info: &core::panic::PanicInfo) -> ! {
    begin_last_words();
    text("kernel panic");
    if let Some(place) = info.location() {
        text(" at ");
        text(place.file());
        text(":");
        decimal(place.line().into());
    }
    text("\n");
    traps::backtrace(None, cpu::frame_pointer());
    crash()
}
