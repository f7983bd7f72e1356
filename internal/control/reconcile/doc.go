// Package reconcile decides how a row of the database and the state that a host observes
// of the same object are brought into agreement.
//
// It is one pure machine, [Machine], with two tables of rules: [Sandboxes] and
// [Snapshots]. The control plane reads rows and observed states, calls [Machine.Step] with
// the time of the pass, and carries the decisions out. The package does no I/O,
// starts no goroutine and reads no clock: the same calls give the same decisions.
//
//	row (desired)      observed state
//	         \           /
//	          Rules.Decide ──► Decision: none, move, delete, pause, remove, report
//
// # Guarantees
//
//  1. A disagreement that an operation in flight may explain is left alone until
//     it has lasted for its grace period, or until the caller is certain that no
//     operation is in flight (TestMachineGrace).
//  2. Every move of a sandbox is one that sandbox.CanMove allows (TestSandboxRules).
//  3. Carrying out decisions repeatedly ends in agreement, from any combination of
//     row and observed state (TestSandboxesConverge, TestSnapshotsConverge).
//
// A host that cannot be reached has no observed states; the caller makes no pass then. A
// nil observed state always means that the host was asked and does not know the object.
package reconcile
