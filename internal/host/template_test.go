package host

import (
	"testing"

	"github.com/wrenn-dev/wrenn/internal/host/image"
	"github.com/wrenn-dev/wrenn/internal/host/vmm"
	"github.com/wrenn-dev/wrenn/internal/sandbox"
)

// printer is a driver that only has a fingerprint.
type printer struct {
	vmm.Driver
	print, boot map[string]string
}

func (p printer) BootInputs() map[string]string { return p.boot }

func (p printer) Fingerprint(vmm.Config) map[string]string {
	out := map[string]string{"vcpus": "1", vmm.FingerprintTSC: "2000000"}
	for k, v := range p.print {
		out[k] = v
	}
	return out
}

// boots are the inputs of a cold start.
func boots(kernel, initramfs string) map[string]string {
	return map[string]string{vmm.BootKernel: kernel, "initramfs": initramfs}
}

// TestTemplateKey: a change of anything that a template snapshot depends on makes
// another key, so that none is ever stale; other changes keep the key.
func TestTemplateKey(t *testing.T) {
	type world struct {
		m    Manager
		spec sandbox.Spec
		img  image.Template
	}
	key := func(change func(*world)) string {
		w := world{spec: sandbox.Spec{}.WithDefaults(), img: image.Template{Digest: "image"}}
		w.m.drivers = vmm.Drivers{printer{print: map[string]string{"cpu": "max"}, boot: boots("kernel", "guest")}}
		change(&w)
		k, _ := w.m.templateKey(w.spec, w.img)
		return k
	}
	base := key(func(*world) {})
	seen := map[string]string{base: "nothing"}
	for what, change := range map[string]func(*world){
		"image": func(w *world) { w.img.Digest = "another" },
		"kernel": func(w *world) {
			w.m.drivers = vmm.Drivers{printer{print: map[string]string{"cpu": "max"}, boot: boots("another", "guest")}}
		},
		"guest": func(w *world) {
			w.m.drivers = vmm.Drivers{printer{print: map[string]string{"cpu": "max"}, boot: boots("kernel", "another")}}
		},
		"disk": func(w *world) { w.spec.DiskMB++ },
		"cpu": func(w *world) {
			w.m.drivers = vmm.Drivers{printer{print: map[string]string{"cpu": "host"}, boot: boots("kernel", "guest")}}
		},
		"version": func(w *world) {
			w.m.drivers = vmm.Drivers{printer{print: map[string]string{"cpu": "max", "version": "9"}, boot: boots("kernel", "guest")}}
		},
	} {
		k := key(change)
		if other, ok := seen[k]; ok {
			t.Errorf("another %s has the key of another %s", what, other)
		}
		seen[k] = what
	}
	for what, change := range map[string]func(*world){
		"environment": func(w *world) { w.spec.Env = map[string]string{"A": "B"} },
		"timeout":     func(w *world) { w.spec.Timeout++ },
		"clock rate": func(w *world) {
			w.m.drivers = vmm.Drivers{printer{print: map[string]string{"cpu": "max", vmm.FingerprintTSC: "2000001"}, boot: boots("kernel", "guest")}}
		},
	} {
		if key(change) != base {
			t.Errorf("another %s makes another key", what)
		}
	}
}
