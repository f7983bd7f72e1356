// Package sim holds the deterministic simulation of the control plane: its tests.
//
// A history runs one or two real control planes (control.Service with all its
// loops) on the store in memory and on simulated hosts, in the virtual time of
// testing/synctest. Clients create, pause, resume, fork, snapshot and destroy
// sandboxes while seeded faults happen: lost and late requests and replies,
// duplicates, hosts that restart or are slow, servers that are killed, a database
// that is away, crashes and loses rows that were not on disk, clocks that step.
// Then the faults end, and rows and hosts must converge.
//
// # Invariants that are asserted
//
//  1. A create that was acknowledged is never lost: its row lives until somebody
//     destroys the sandbox or its VM ends.
//  2. A sandbox that was destroyed never comes back.
//  3. The capacity of a host is never oversold.
//  4. Every change of a row is one that sandbox.CanMove allows, and generations
//     never fall, unless the database crashed.
//  5. Once faults have ended, every row comes to rest within a bounded time in running,
//     paused, stopped or error, and its host agrees, also about the limits of outgoing traffic.
//  6. Then no VM and no snapshot without a row is left on a host.
//  7. A snapshot whose deletion has begun is never made ready again.
//
// # Replay
//
// A failure prints its seed. Run that history alone, with its trace:
//
//	WRENN_SIM_SEED=1234 go test -v -run TestSimulation ./internal/control/sim
//
// WRENN_SIM_RUNS sets the number of histories.
package sim
