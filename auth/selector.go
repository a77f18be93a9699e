package auth

import (
	"errors"
	"slices"
	"strconv"
	"strings"
)

// selector names one or several members of a JSON object, each as the path to it.
type selector [][]string

// parseSelector reads names that are separated by commas. A name that begins with a
// slash is a JSON pointer (RFC 6901), any other one is a member of the object.
func parseSelector(text string) (selector, error) {
	var s selector
	for name := range strings.SplitSeq(text, ",") {
		name = strings.TrimSpace(name)
		pointer, isPointer := strings.CutPrefix(name, "/")
		switch {
		case name == "":
			return nil, errors.New("a name is empty")
		case !isPointer:
			s = append(s, []string{name})
			continue
		}
		path := strings.Split(pointer, "/")
		for i, step := range path {
			if strings.Contains(strings.ReplaceAll(strings.ReplaceAll(step, "~0", ""), "~1", ""), "~") {
				return nil, errors.New("a JSON pointer has a ~ that is neither ~0 nor ~1")
			}
			path[i] = strings.ReplaceAll(strings.ReplaceAll(step, "~1", "/"), "~0", "~")
		}
		s = append(s, path)
	}
	return s, nil
}

// CheckSelector reports what is wrong with the names of claims.
func CheckSelector(text string) error {
	_, err := parseSelector(text)
	return err
}

// subject reads the members, each an integer or a text, and joins them by colons.
// With several, a part that is missing, empty or has a colon of its own is refused:
// a and b:c would be the same as a:b and c.
func (s selector) subject(object map[string]any) (string, error) {
	parts := make([]string, len(s))
	for i, path := range s {
		value := find(object, path)
		if len(s) > 1 {
			if text, ok := value.(string); value == nil || ok && (text == "" || strings.Contains(text, ":")) {
				return "", refused(reasonUserPart)
			}
		}
		part, err := subject(value)
		if err != nil {
			return "", err
		}
		parts[i] = part
	}
	joined := strings.Join(parts, ":")
	if len(joined) > maxSubjectBytes {
		return "", refused(reasonUserClaim)
	}
	return joined, nil
}

// find follows a path through objects and lists; nil is nothing there.
func find(value any, path []string) any {
	for _, step := range path {
		switch v := value.(type) {
		case map[string]any:
			value = v[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(v) || strconv.Itoa(i) != step {
				return nil
			}
			value = v[i]
		default:
			return nil
		}
	}
	return value
}

const (
	groupPrefix = "group:"
	maxGroups   = 100
)

// groups reads the members as names of groups, a list or one, each an integer or a
// text, and returns their keys. A name that is empty names nothing.
func (s selector) groups(object map[string]any) ([]string, error) {
	var keys []string
	for _, path := range s {
		value := find(object, path)
		list, ok := value.([]any)
		if !ok && value != nil {
			list = []any{value}
		}
		for _, name := range list {
			if name == "" {
				continue
			}
			text, err := subject(name)
			if err != nil {
				return nil, refused(reasonGroups)
			}
			if key := groupPrefix + text; !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
			if len(keys) > maxGroups {
				return nil, refused(reasonGroups)
			}
		}
	}
	return keys, nil
}
