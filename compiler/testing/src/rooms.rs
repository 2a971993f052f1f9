//! Memory between inaccessible pages: whoever reads or writes a byte outside of its buffer is ended by the system.

use std::io::Error;
use std::ops::Range;

/// Where the bytes of a buffer lie between the pages around them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// They begin right after an inaccessible page, aligned as in production.
    Begin,
    /// They end right before one, aligned to their elements only.
    End,
}

/// Both sides: no access outside of a buffer goes unseen by one of them.
pub const SIDES: [Side; 2] = [Side::Begin, Side::End];

/// What the bytes around a room's own are set to.
const FILL: u8 = 0xc3;

/// Runs of bytes, each in pages of its own, with an inaccessible page before and after each.
pub struct Rooms {
    map: *mut u8,
    bytes: usize,
    rooms: Vec<Room>,
}

/// Where a room is, from the start of the map on.
struct Room {
    pages: Range<usize>,
    own: Range<usize>,
}

impl Rooms {
    /// A room of each length; what they hold is not defined.
    ///
    /// # Panics
    ///
    /// When the system has no memory for them.
    pub fn new(lengths: &[usize], side: Side) -> Rooms {
        let page = page();
        let (mut rooms, mut at) = (Vec::new(), page);
        for &length in lengths {
            let end = at + length.next_multiple_of(page);
            let own = if side == Side::Begin { at..at + length } else { end - length..end };
            rooms.push(Room { pages: at..end, own });
            at = end + page;
        }
        // SAFETY: a new private map of no file, wherever the system puts it, touches no memory of ours.
        let map = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_NORESERVE;
            libc::mmap(std::ptr::null_mut(), at, libc::PROT_NONE, flags, -1, 0)
        };
        assert!(map != libc::MAP_FAILED, "{at} bytes of pages: {}", Error::last_os_error());
        let rooms = Rooms { map: map.cast(), bytes: at, rooms };
        for (i, room) in rooms.rooms.iter().enumerate() {
            rooms.protect(i, libc::PROT_READ | libc::PROT_WRITE);
            // SAFETY: the room's pages lie in the map, and can be written since the line above.
            unsafe { rooms.map.add(room.pages.start).write_bytes(FILL, room.pages.len()) };
        }
        rooms
    }

    /// The start of the map, from which rooms are [`Rooms::offset`] bytes away, and its length.
    pub fn map(&self) -> (*mut u8, usize) {
        (self.map, self.bytes)
    }

    /// Where room `i` begins.
    pub fn offset(&self, i: usize) -> usize {
        self.rooms[i].own.start
    }

    /// The address of room `i`.
    pub fn address(&self, i: usize) -> *mut u8 {
        self.map.wrapping_add(self.offset(i))
    }

    /// The bytes of room `i`.
    pub fn bytes(&self, i: usize) -> &[u8] {
        self.slice(&self.rooms[i].own)
    }

    /// Copies bytes, as many as it has, into room `i`.
    pub fn fill(&mut self, i: usize, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.rooms[i].own.len(), "the length of room {i}");
        // SAFETY: the room has as many bytes, which can be written, and which nobody else borrows.
        unsafe { self.address(i).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Lets nobody write into room `i` any more.
    pub fn close(&mut self, i: usize) {
        self.protect(i, libc::PROT_READ);
    }

    /// Whether nothing was written outside room `i` within its pages.
    pub fn intact(&self, i: usize) -> bool {
        let Room { pages, own } = &self.rooms[i];
        let beside = [pages.start..own.start, own.end..pages.end];
        beside.iter().all(|range| self.slice(range).iter().all(|&b| b == FILL))
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        // SAFETY: rooms lie in the map, whose pages can be read there, and only kernels that run meanwhile write to
        // them.
        unsafe { std::slice::from_raw_parts(self.map.add(range.start), range.len()) }
    }

    fn protect(&self, i: usize, access: libc::c_int) {
        let pages = &self.rooms[i].pages;
        if pages.is_empty() {
            return;
        }
        // SAFETY: whole pages of our own map, which `slice` reads and `fill` writes only while they may.
        let failed = unsafe { libc::mprotect(self.map.add(pages.start).cast(), pages.len(), access) };
        assert_eq!(failed, 0, "pages of room {i}: {}", Error::last_os_error());
    }
}

impl Drop for Rooms {
    fn drop(&mut self) {
        // SAFETY: the map is ours, and what borrows from it has ended.
        unsafe { libc::munmap(self.map.cast(), self.bytes) };
    }
}

/// Bytes of a page.
fn page() -> usize {
    // SAFETY: `sysconf` takes any integer and touches no memory of ours.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two()).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_touch_the_pages_around_them() {
        let lengths = [0, 1, 64, page(), page() + 4];
        for side in SIDES {
            let mut rooms = Rooms::new(&lengths, side);
            for (i, &length) in lengths.iter().enumerate() {
                rooms.fill(i, &vec![i as u8; length]);
                assert!(rooms.bytes(i).iter().all(|&b| b == i as u8) && rooms.intact(i));
                let edge = if side == Side::Begin { rooms.offset(i) } else { rooms.offset(i) + length };
                assert_eq!(edge % page(), 0);
            }
            // SAFETY: a byte of the room's own pages that is not its own.
            unsafe {
                rooms
                    .map
                    .add(if side == Side::Begin { rooms.rooms[1].own.end } else { rooms.rooms[1].pages.start })
                    .write(1)
            };
            assert!(!rooms.intact(1) && rooms.intact(2));
        }
    }
}
