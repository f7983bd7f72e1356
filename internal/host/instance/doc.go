// Package instance owns one VM with its resources: network slot, control group,
// disk and base.
//
// It declares the narrow interfaces of the parts that an instance is made of, so
// that the host core runs on real ones and on fakes alike. Package host is the
// only caller.
package instance
