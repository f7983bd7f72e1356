// Package agent is the guest agent's core: it admits calls, configures the
// guest, runs commands, and reads and writes files.
//
// It knows no transport. The packages channel (the host agent's control
// channel) and envd (the public protocol) turn bytes into calls of an Agent, so
// that both enforce the same rules. Programs inside the guest reach both ports;
// neither transport trusts its peer before Admit has.
//
// # The sealed state
//
//	         Configure                    Quiesce
//	sealed ───────────► open (token known) ───────► sealed
//	   ▲  │ failed: stays sealed     │  Configure: new token
//	   └──┘                          └──────────────► open
//
// A new guest starts sealed. A sealed guest admits Configure only; a
// transport may answer health checks by itself. An Epoch is the time between
// two changes of that state. Every call belongs to one epoch and is cut off
// when it ends.
//
// # The platform
//
// Operations that need privileges go through one interface, Platform: the random
// generator, the clock, host name and machine id, the freezer, cgroups, the
// memory that outlives the agent, and the ledger of commands. Package boot
// implements it for a Linux guest (boot.NewPlatform), and wrenn-guest uses that.
//
// To run the real agent inside another process without root, for example behind
// a fake VM, use the Platform of package agenttest and a root directory whose
// etc/passwd gives every user the uid of this process:
//
//	a := agent.New(agent.Config{
//		Platform: agenttest.NewPlatform(nil),
//		Root:     root, // of agenttest.Root
//		Log:      log, Version: "fake",
//	})
//	defer a.Close(ctx)
//	go channel.New(a).ServeConn(ctx, conn) // any net.Conn, such as one of net.Pipe
//
// Root concerns accounts only: paths of files and commands are those of this
// process. A Platform keeps the settings of the agent (SaveSettings): to restore
// a fake snapshot, make a new Agent on a Platform that holds the saved bytes.
//
// # Published settings
//
// Configure publishes the digest of the public token and the sandbox's variables to
// programs of root in the guest (PublishSettings), with the machine id of the sandbox, before it
// thaws user processes. Quiesce wipes them.
//
// # Failures
//
// Errors are faults of package fault; their Public sentence goes to the caller.
package agent
