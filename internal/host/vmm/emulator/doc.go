// Package emulator keeps builds of the emulator, so that an upgrade of the
// machine's packages strands no saved VM.
//
// Saved device state can only be loaded by the build that wrote it. A [Store]
// holds a self-contained copy of each build that a VM has been started under:
// the binary, the dynamic loader, the shared libraries, the ROM images and the
// loadable modules. The driver of the VMM runs VMs from these copies only, and
// the host manager removes a copy once nothing on the host was saved under it.
//
//	<store>/<id>/lib/qemu-loader   the dynamic loader; absent for a static binary
//	<store>/<id>/lib/…             shared libraries, by the name they are linked under
//	<store>/<id>/bin/…             the binary
//	<store>/<id>/share/…           ROM images
//	<store>/<id>/modules/…         loadable modules, if the build has any that VMs need
//	<store>/<id>/build.json        the Build; written last
//
// # Guarantees
//
//  1. A copy appears under its name complete and durable, or not at all
//     (TestKeepIsAtomic).
//  2. A file that was changed since is found before anything runs from the
//     copy (TestDamagedBuildIsRefused).
//  3. A copy runs without any file of the installed packages
//     (TestKeptBuildRunsByItself).
//
// The package starts no VM and never changes an installed file.
package emulator
