// Package upgrade tests that this version reads the data of earlier ones.
package upgrade
