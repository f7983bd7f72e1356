// Package process follows the process of a VM: it identifies, finds, watches and
// ends it.
//
// It owns the identity of a VM process, which a vmm.Record holds: its number, the
// time at which it started, and the boot of the machine. The number alone proves
// nothing, because the kernel gives it to another process later. The drivers call
// it. It knows no VMM: a driver says by which mark its processes are known, and how
// one of them ended. It never starts a process.
//
// # Guarantees
//
//  1. A signal reaches the process of the record or no process
//     (TestEndLeavesOthersAlone).
//  2. Exited is closed once, after the process has ended and the driver has described
//     its end. Exit never changes afterwards (TestWatch).
//  3. After Detach the process continues, and Exited is never closed (TestDetach).
package process
