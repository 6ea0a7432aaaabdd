package main

import (
	"context"
	"fmt"

	pb "github.com/entente-im/entente/wire/ententev1"
	"github.com/spf13/cobra"
)

func partnerTokens() *cobra.Command {
	c := &cobra.Command{Use: "tokens", Short: "List tokens that invite made (never their secrets)", Example: "  entente partner tokens --data acme", Args: exactArgs()}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		a, err := operate(c.Context(), *data, operatorClient.ListTokens, &pb.ListTokensRequest{})
		if err != nil {
			return err
		}
		var rows [][]string
		for _, t := range a.Tokens {
			if *asJSON {
				if err := printProto(c.OutOrStdout(), t); err != nil {
					return err
				}
			}
			rows = append(rows, []string{t.TokenId, dash(t.Partner), tokenState(t), when(t.ExpiresUnix)})
		}
		if *asJSON {
			return nil
		}
		return table(c.OutOrStdout(), "TOKEN PARTNER STATE EXPIRES", rows)
	}
	return c
}

func tokenState(t *pb.PartnerToken) string {
	if t.Used {
		return "used"
	}
	return "open"
}

func partnerRevokeToken() *cobra.Command {
	c := &cobra.Command{Use: "revoke-token TOKEN", Short: "Take a token back that nobody has used", Long: "Take a token back that nobody has used, by its ID (entente partner tokens).",
		Example: "  entente partner revoke-token 3f0a… --data acme", Args: exactArgs("TOKEN"), ValidArgsFunction: completeToken}
	data, asJSON := dataFlag(c), jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if _, err := operate(c.Context(), *data, operatorClient.RevokeToken, &pb.RevokeTokenRequest{TokenId: args[0]}); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(c.OutOrStdout(), map[string]string{"event": "token revoked", "token": args[0]})
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "token %s is good for nothing any more\n", args[0])
		return err
	}
	return c
}

// completeToken offers the IDs of tokens that can be taken back.
func completeToken(c *cobra.Command, args []string, _ string) (ids []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	fromNode(c, func(ctx context.Context, dir string) error {
		a, err := operate(ctx, dir, operatorClient.ListTokens, &pb.ListTokensRequest{})
		for _, t := range a.GetTokens() {
			if !t.Used {
				ids = append(ids, t.TokenId+"\t"+t.Partner)
			}
		}
		return err
	})
	return ids, cobra.ShellCompDirectiveNoFileComp
}
