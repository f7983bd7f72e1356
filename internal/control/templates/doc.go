// Package templates builds templates: named starts of sandboxes, made from images or other
// templates by the steps of a plan.
//
// A build runs in sandboxes of its own (machines), so that its commands are as isolated as
// those of any sandbox. After steps that took time it keeps a snapshot, a layer, from which
// a later build with the same beginning starts. The last snapshot, taken while the start
// command runs, is the template.
//
// The edges (rest, e2b) call [API]. The package decides nothing about hosts and VMs: the
// control plane creates machines and snapshots. Rows are kept by [Store].
package templates
