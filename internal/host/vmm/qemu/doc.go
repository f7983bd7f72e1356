// Package qemu drives QEMU's microvm machine, under KVM or in software (TCG).
//
// It owns the command line, the QMP conversation and the VM process. The host
// manager calls it through vmm.Driver. It never makes disks, networks or
// directories, and it never falls back from one acceleration to the other: the
// caller has chosen before.
//
// Memory is always a private mapping of a file that QEMU only reads, so that
// many VMs can share one file. The pages that a VM has changed are found from
// outside, in its page map (package memory).
package qemu
