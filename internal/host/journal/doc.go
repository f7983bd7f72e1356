// Package journal stores, for each sandbox of a host, the record that outlives
// the host agent, and defines the steps of every operation.
//
// It owns the record files. Package host writes a record before each step of an
// operation and reads all records when it starts. The package never touches a
// VM, a network or a disk.
//
// # Operations
//
// Operations lists each operation once, as an ordered table of steps. A row
// names the action of the next agent on the sandbox if the agent ends at that
// step, and says whether the step may run although the journal cannot be written.
// Record.Recovery reads the same rows, and docs/crash-points.md is generated
// from them.
//
// # Guarantees
//
//  1. After the end of the agent, at any instruction, the old or the new record
//     is complete.
//  2. The record of a pause also survives a crash of the host, and the records that
//     are written over it (see WritePause).
//  3. A record of a newer version is refused and left unchanged (data_newer).
package journal
