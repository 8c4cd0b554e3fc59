//! Changing stacks.

#![expect(unsafe_code, reason = "stacks")]

use core::ffi::c_void;

unsafe extern "C" {
    fn libos_switch(save: *mut usize, to: usize);
    fn libos_thread_begin();
    fn libos_enter(stack: usize) -> !;
    fn libos_call_on(stack: u64, function: u64, arguments: *const [u64; 3]);
}

/// MXCSR and x87 control word as a program starts with them: all exceptions masked, double-extended precision.
const FPU: u64 = 0x037f << 32 | 0x1f80;

/// Prepares the stack below `top` (16-byte aligned) so that the first switch to it calls `entry(arg)`; the
/// stack pointer to switch to.
///
/// # Safety
/// At least 64 bytes below `top` are writable and unused, and `entry` may be called with `arg` there.
pub unsafe fn first_frame(top: usize, entry: extern "C" fn(*mut c_void), arg: *mut c_void) -> usize {
    let begin = libos_thread_begin as *const () as u64;
    // The order in which `libos_switch` pops: FPU, r15, r14, r13, r12, rbx, rbp, return address.
    let frame = [FPU, 0, 0, entry as *const () as u64, arg as u64, 0, 0, begin];
    let pointer = top - size_of_val(&frame);
    // SAFETY: the caller's promise.
    unsafe { (pointer as *mut [u64; 8]).write(frame) };
    pointer
}

/// Saves the running thread's stack pointer at `save` and goes on with the thread that was saved as `to`.
///
/// # Safety
/// `to` came from [`first_frame`] or from an earlier switch, its stack is intact, and `save` stays valid until
/// this thread is switched to again.
pub unsafe fn switch(save: *mut usize, to: usize) {
    // SAFETY: the caller's promise.
    unsafe { libos_switch(save, to) }
}

/// Enters the application at `_start`.
///
/// # Safety
/// `stack` is laid out as in System V psABI 3.4.1, in a stack of the running thread.
pub unsafe fn enter(stack: usize) -> ! {
    // SAFETY: the caller's promise.
    unsafe { libos_enter(stack) }
}

/// Calls `function` with three arguments, on another stack that ends at `stack` (0: on the running one).
///
/// # Safety
/// There is such a function, it may be called so, and the stack is free to be used.
pub unsafe fn call_on(stack: u64, function: u64, arguments: [u64; 3]) {
    // SAFETY: the caller's promise.
    unsafe { libos_call_on(stack, function, &arguments) }
}
