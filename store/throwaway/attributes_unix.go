//go:build unix && !linux

package throwaway

import "syscall"

// attributes runs a child as who, out of reach of the terminal's Ctrl-C.
func attributes(who *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: who, Setpgid: true}
}
