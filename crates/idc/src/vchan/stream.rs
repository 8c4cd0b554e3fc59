//! `std::io` for a vchan: its bytes are a stream as they are.

use std::io;

use super::Vchan;
use crate::platform::Platform;
use crate::shm::Fields;

impl<P: Platform> io::Read for Vchan<P>
where
    P::Memory: Fields,
{
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(Vchan::read(self, buf)?)
    }
}

impl<P: Platform> io::Write for Vchan<P>
where
    P::Memory: Fields,
{
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(Vchan::write(self, buf)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
