package node

import (
	"context"
	"encoding/hex"

	"connectrpc.com/connect"

	"github.com/entente-im/entente/wire"
	pb "github.com/entente-im/entente/wire/ententev1"
)

// ListTokens lists the partner tokens that were made here, never their secrets.
func (a operatorAPI) ListTokens(context.Context, *connect.Request[pb.ListTokensRequest]) (*connect.Response[pb.ListTokensResponse], error) {
	tokens, err := a.n.fed.Tokens()
	out := &pb.ListTokensResponse{}
	for _, t := range tokens {
		out.Tokens = append(out.Tokens, &pb.PartnerToken{TokenId: hex.EncodeToString(t.ID[:]), Partner: t.Partner, ExpiresUnix: t.Expires.Unix(), Used: t.Used})
	}
	return answer(out, err)
}

// RevokeToken takes a partner token back that nobody has used.
func (a operatorAPI) RevokeToken(ctx context.Context, r *connect.Request[pb.RevokeTokenRequest]) (*connect.Response[pb.RevokeTokenResponse], error) {
	raw, err := hex.DecodeString(r.Msg.TokenId)
	if err != nil || len(raw) != 16 {
		return answer[pb.RevokeTokenResponse](nil, wire.Refuse(pb.Code_CODE_MALFORMED, "a token's ID is 32 hex digits: see entente partner tokens"))
	}
	return answer(&pb.RevokeTokenResponse{}, a.n.fed.RevokeToken(ctx, [16]byte(raw)))
}
