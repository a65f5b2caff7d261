//! A guest of twenty instructions: it writes a pattern over its memory, and looks again and again whether that is there.
//!
//! ```text
//!         rbx = START, rcx = END
//! fill:   [rbx] = rbx;  rbx += STEP;  until rcx;      says 'R'
//! pass:   rbx = START
//! look:   [rbx] == rbx, or it says 'X' for ever;  perhaps [rbx + 8] += 1;  rbx += STEP;  until rcx;      says 'P'
//!         and does so again, or halts
//! ```
//! It is an ELF of one segment, which Firecracker enters in 64-bit mode with the first GiB mapped to itself. Its serial
//! port is that of a PC. A KVM that is paravirtual interprets it, at about a million instructions a second.

use fcvm_spec::PageSize;

/// What it says after it has found all that it looked for.
pub(super) const PASSED: char = 'P';
/// What it says when it found something else.
pub(super) const WRONG: char = 'X';

/// Where the pattern begins. Below are its program and what Firecracker puts there.
const START: u32 = 4 << 20;
/// Where the program is, in the file and in memory.
const PLACE: u64 = 2 << 20;
const OFFSET: usize = 4096;

/// A guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its memory in MiB.
    pub memory: u32,
    /// What that is made of.
    pub pages: PageSize,
    /// How much of it is touched, from the beginning, in MiB; less than a GiB.
    pub reach: u32,
    /// How far apart what it touches is, bytes.
    pub step: u32,
    /// Whether it writes as well while it looks.
    pub writes: bool,
    /// What it does when it has looked at all.
    pub then: Then,
}

/// What a guest does when it has looked at all of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It begins anew.
    Again,
    /// It sleeps for ever.
    Rest,
}

impl Guest {
    /// How many places it touches in a pass.
    pub fn places(&self) -> u64 {
        u64::from(self.end() - START).div_ceil(self.step.into())
    }

    fn end(&self) -> u32 {
        self.reach << 20
    }

    /// Returns its kernel.
    pub fn program(&self) -> Vec<u8> {
        let code = self.code();
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        let push = |elf: &mut Vec<u8>, number: u64, bytes: usize| elf.extend(&number.to_le_bytes()[..bytes]);
        // An executable for x86_64, its entry, one program header behind this one, no sections.
        for (number, bytes) in [
            (2, 2),
            (62, 2),
            (1, 4),
            (PLACE, 8),
            (64, 8),
            (0, 8),
            (0, 4),
            (64, 2),
            (56, 2),
            (1, 2),
            (0, 2),
            (0, 2),
            (0, 2),
        ] {
            push(&mut elf, number, bytes);
        }
        // To be loaded, for everything.
        let length = code.len() as u64;
        for (number, bytes) in
            [(1, 4), (7, 4), (OFFSET as u64, 8), (PLACE, 8), (PLACE, 8), (length, 8), (length, 8), (4096, 8)]
        {
            push(&mut elf, number, bytes);
        }
        elf.resize(OFFSET, 0);
        elf.extend(code);
        elf
    }

    fn code(&self) -> Vec<u8> {
        let mut code = Code::default();
        code.set_rbx(START);
        code.bytes(&[0x48, 0xc7, 0xc1]).number(self.end()); // mov rcx, END
        let fill = code.here();
        code.bytes(&[0x48, 0x89, 0x1b]); // mov [rbx], rbx
        code.next(self.step, fill);
        code.bytes(&[0x66, 0xba, 0xf8, 0x03]); // mov dx, 0x3f8
        code.say('R');
        let pass = code.here();
        code.set_rbx(START);
        let look = code.here();
        code.bytes(&[0x48, 0x39, 0x1b]); // cmp [rbx], rbx
        code.bytes(&[0x74, 0x05]); // je over the next five bytes
        code.say(WRONG);
        code.bytes(&[0xeb, 0xfe]); // jmp to itself
        if self.writes {
            code.bytes(&[0x48, 0xff, 0x43, 0x08]); // inc qword [rbx + 8]
        }
        code.next(self.step, look);
        code.say(PASSED);
        if self.then == Then::Rest {
            code.bytes(&[0xf4, 0xeb, 0xfd]); // hlt; jmp to it
        }
        code.jump(0xeb, pass); // jmp pass
        code.0
    }
}

#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    fn here(&self) -> usize {
        self.0.len()
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }

    fn number(&mut self, number: u32) {
        self.0.extend(number.to_le_bytes());
    }

    fn set_rbx(&mut self, number: u32) {
        self.bytes(&[0x48, 0xc7, 0xc3]).number(number); // mov rbx, NUMBER
    }

    fn next(&mut self, step: u32, again: usize) {
        self.bytes(&[0x48, 0x81, 0xc3]).number(step); // add rbx, STEP
        self.bytes(&[0x48, 0x39, 0xcb]); // cmp rbx, rcx
        self.jump(0x72, again); // jb AGAIN
    }

    fn say(&mut self, letter: char) {
        self.bytes(&[0xb0, letter as u8, 0xee]); // mov al, LETTER; out dx, al
    }

    fn jump(&mut self, kind: u8, to: usize) {
        let back = self.here() + 2 - to;
        let distance = i8::try_from(back).expect("the program is short");
        self.bytes(&[kind, (-distance).cast_unsigned()]);
    }
}
