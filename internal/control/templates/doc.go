// Package templates builds templates: named starts of sandboxes, made from images or other
// templates by the steps of a plan.
//
// A build runs in sandboxes of its own (machines), so that its commands are as isolated as
// those of any sandbox. After steps that took time it keeps a snapshot, a layer, from which
// a later build with the same beginning starts. The last snapshot, taken while the start
// command runs, is the template.
//
// The edges (rest, e2b) call [API], which [Service] implements. The package decides nothing
// about hosts and VMs: the control plane creates machines and snapshots ([Machines]). Rows
// are kept by [Store]; uploads are files of the server ([Config].Dir).
//
// # A build
//
//	Begin ── waiting ── Start ── building ──┬─ ready   (FinishBuild: snapshot, tags)
//	                                        └─ error   (reason with the step)
//
//	resolve   bases are imported or found; states and keys of all steps are computed
//	carry out from the last stage backwards: a machine is made only where something has to
//	          run or to be copied, from the longest chain of steps that has a layer
//	finish    start command, ready command, snapshot
//
// A key is a hash of the base, the sizes, and every step before with the files that it
// takes. It holds no secret and no time. After a step that gets a secret there are no layers,
// because the memory and the files of the machine may hold it (TestSecretsAreNotShared).
//
// # Guarantees
//
//  1. A failure of a machine or a host is tried again from the last layer
//     (TestLostMachineIsTriedAgain); a failure of the author's commands is not, and has a
//     reason that names the step (TestFailures).
//  2. A build survives its server: the next one continues it from the last layer that the
//     build itself has made (TestRestartContinues). A build with secrets or credentials ends with
//     a reason instead, because these are never stored (TestRestartWithSecretsFails). A build of
//     a live server that nothing carries out is carried on too, or fails
//     (TestAbandonedRowIsCarriedOn, TestBuildThatNeverEndsFails). A server whose build another
//     one has claimed changes nothing of it (TestClaimedBuildEndsHere). A build whose stored plan
//     cannot be read fails (TestUnreadablePlanEndsTheBuild).
//  3. No value of a secret is in a log, a key or a file of a layer (TestSecrets). It may remain
//     in freed memory of the machine, which snapshots contain.
//  4. Machines are destroyed when their build has ended, also after a crash of the server. A
//     destruction that fails is repeated (TestRefusedDestroyIsRepeated).
//  5. Uploads are not trusted: names, numbers and sizes are bounded, and nothing is written
//     outside of the destination (TestHostileContexts).
package templates
