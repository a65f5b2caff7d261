//! A program for guests whose link is a vsock: it connects to the host and executes its arguments with the connection as
//! descriptor 3. Busybox speaks no vsock.

use fcvm_vmm::LINK_VSOCK_PORT;

/// Where the program is loaded, and how long the headers of its file are.
const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;

/// `socket`, `connect`, `dup2`, `execve`, and `exit` where one of the first two fails.
const CODE: &[u8] = &[
    0xb8, 41, 0, 0, 0, // mov eax, SYS_socket
    0xbf, 40, 0, 0, 0, // mov edi, AF_VSOCK
    0xbe, 1, 0, 0, 0, // mov esi, SOCK_STREAM
    0x31, 0xd2, // xor edx, edx
    0x0f, 0x05, // syscall
    0x89, 0xc3, // mov ebx, eax
    0xb8, 42, 0, 0, 0, // mov eax, SYS_connect
    0x89, 0xdf, // mov edi, ebx
    0x48, 0x8d, 0x35, 56, 0, 0, 0, // lea rsi, [rip + 56]: the address behind the code
    0xba, 16, 0, 0, 0, // mov edx, 16
    0x0f, 0x05, // syscall
    0x85, 0xc0, // test eax, eax
    0x75, 33, // jnz to exit
    0xb8, 33, 0, 0, 0, // mov eax, SYS_dup2
    0x89, 0xdf, // mov edi, ebx
    0xbe, 3, 0, 0, 0, // mov esi, 3
    0x0f, 0x05, // syscall
    0x48, 0x8b, 0x7c, 0x24, 16, // mov rdi, [rsp + 16]: the first argument
    0x48, 0x8d, 0x74, 0x24, 16, // lea rsi, [rsp + 16]: it and the others
    0x31, 0xd2, // xor edx, edx
    0xb8, 59, 0, 0, 0, // mov eax, SYS_execve
    0x0f, 0x05, // syscall
    0xb8, 60, 0, 0, 0, // mov eax, SYS_exit
    0xbf, 1, 0, 0, 0, // mov edi, 1
    0x0f, 0x05, // syscall
];

/// Returns the program, a static ELF file for x86_64.
pub(crate) fn program() -> Vec<u8> {
    let mut address = Vec::new();
    // struct sockaddr_vm: family, reserved, port, the host's number, zeros.
    address.extend([40, 0, 0, 0]);
    address.extend(LINK_VSOCK_PORT.to_le_bytes());
    address.extend(2_u32.to_le_bytes());
    address.extend([0; 4]);
    let length = HEADERS + (CODE.len() + address.len()) as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for number in [BASE + HEADERS, 64, 0] {
        file.extend(number.to_le_bytes());
    }
    file.extend(b"\0\0\0\0\x40\0\x38\0\x01\0\0\0\0\0\0\0");
    file.extend(b"\x01\0\0\0\x05\0\0\0");
    for number in [0, BASE, BASE, length, length, 4096] {
        file.extend(number.to_le_bytes());
    }
    assert_eq!(file.len() as u64, HEADERS);
    file.extend(CODE);
    file.extend(address);
    file
}
