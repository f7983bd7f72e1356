// Package sandbox defines the product's nouns: identities, states, the settings that a user
// may ask for, and the limits on it.
//
// Control plane and host agent both speak in these terms. The package does no
// I/O, keeps no state and knows no wire format.
package sandbox
