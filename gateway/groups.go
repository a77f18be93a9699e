package gateway

import (
	"slices"

	"github.com/seed-64e334f9/notification-gateway/store"
)

// maxFurtherKeys is how many keys beside its own a recipient may stand under.
const maxFurtherKeys = 100

// furtherKeys are the keys beside the recipient's own that a stream stands under:
// those that the view identity gives, and the groups that the token names. Every
// stream stands under everybodyKey without being told.
func (g *Gateway) furtherKeys(v visitor) ([]string, *httpError) {
	keys := append(v.recipient.AlsoKeys(), v.identity.Groups...)
	if len(keys) == 0 {
		return nil, nil
	}
	slices.Sort(keys)
	keys = slices.DeleteFunc(slices.Compact(keys), func(key string) bool { return key == v.recipient.UserKey || key == everybodyKey })
	if len(keys) > maxFurtherKeys {
		g.config.Logger.Warn("a recipient with too many keys is refused", "keys", len(keys), "most", maxFurtherKeys)
		return nil, errCause(store.ErrNoRecipient)
	}
	return keys, nil
}
