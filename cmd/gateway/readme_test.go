package main

import (
	"fmt"
	"reflect"
	"strings"
)

// configurationTable writes the table of deploy/README.md from the tags of config.
func configurationTable() string {
	var b strings.Builder
	b.WriteString("| variable | default | |\n|---|---|---|\n")
	kind := reflect.TypeFor[config]()
	for i := range kind.NumField() {
		tag := kind.Field(i).Tag
		name := tag.Get("envconfig")
		if name == "" {
			continue
		}
		value := tag.Get("default")
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, value, tag.Get("desc"))
	}
	return b.String()
}
