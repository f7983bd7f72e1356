// Package oci reads container images, from registries and from archives, and unpacks
// their layers into a directory.
//
// It owns nothing: the caller gives the directory for downloads and the one for the
// tree, and removes both. Package image calls it. It never runs a program of an image
// and never follows a link of one out of the tree.
//
// # Trust
//
// The registry, the archive and the person who names them are hostile:
//
//   - The host connects only to public addresses, and to registries that the operator
//     lists (Policy). The resolved address of each connection is checked, and so are
//     redirects, token servers and proxies' targets.
//   - Every manifest, configuration and layer is compared with its digest before it is
//     used, also in archives.
//   - Sizes, numbers and depths have limits (Limits), which are checked before bytes are
//     written. A registry that sends nothing for a minute is given up.
//
// # The tree
//
// Layers are applied in their order by the rules of the image specification, whiteouts
// and opaque directories included. Owners, modes with setuid bits, links and FIFOs are
// kept. Devices, sockets and extended attributes (file capabilities among them) are left
// out: the guest makes its own devices, and gVisor reads no attributes.
package oci
