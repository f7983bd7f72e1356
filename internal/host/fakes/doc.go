// Package fakes provides the parts of a host manager other than its driver,
// without root: a network, control groups and images.
//
// Tests of the host core use it together with package vmm/fake. The objects
// belong to the fake host, not to an agent: the next agent finds the slots
// and groups that an earlier one left. Methods may be called concurrently.
package fakes
