//! A disk in memory that writes down what is done to it, and lies if it is told to.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use appliance::esp::Sector;

use crate::device::Device;

/// What was done, in order.
pub type Log = Rc<RefCell<Vec<Op>>>;

/// Which device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Esp,
    Slot,
}

/// What was done to it.
#[derive(Debug, Clone)]
pub enum Op {
    Write { place: Place, offset: u64, bytes: Vec<u8> },
    Flush(Place),
}

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// After so many operations of all disks, this byte is read otherwise.
    Lies { after: usize, offset: u64 },
    /// Such a write fails.
    Fails { offset: u64 },
}

pub struct Memory {
    pub bytes: Vec<u8>,
    pub fault: Option<Fault>,
    place: Place,
    log: Log,
}

impl Memory {
    pub fn new(place: Place, bytes: Vec<u8>, log: &Log) -> Memory {
        Memory { bytes, fault: None, place, log: log.clone() }
    }
}

impl Device for Memory {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Some(Fault::Fails { offset: bad }) = self.fault
            && (offset..offset + bytes.len() as u64).contains(&bad)
        {
            return Err(io::Error::other("bad sector"));
        }
        self.bytes[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        let op = Op::Write { place: self.place, offset, bytes: bytes.to_vec() };
        self.log.borrow_mut().push(op);
        Ok(())
    }

    fn commit(&mut self, offset: u64, sector: &Sector) -> io::Result<()> {
        self.write(offset, sector)?;
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.log.borrow_mut().push(Op::Flush(self.place));
        Ok(())
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let end = offset as usize + bytes.len();
        let kept = self.bytes.get(offset as usize..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(kept);
        if let Some(Fault::Lies { after, offset: bad }) = self.fault
            && self.log.borrow().len() >= after
            && (offset..end as u64).contains(&bad)
        {
            bytes[(bad - offset) as usize] ^= 0x40;
        }
        Ok(())
    }
}
