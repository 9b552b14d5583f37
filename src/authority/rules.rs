/// The protocol rules of an identity provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// Microsoft Entra ID and Microsoft Entra External ID.
    Entra,
    B2c,
    Adfs,
    OpenId,
}

impl Rules {
    /// Returns the identity provider's name in error messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Entra => "Microsoft Entra ID",
            Self::B2c => "Azure AD B2C",
            Self::Adfs => "AD FS",
            Self::OpenId => "the OpenID provider",
        }
    }

    /// Returns `true` if an application can request only a resource's `/.default`.
    pub(crate) fn requires_default_scope(self) -> bool {
        self == Self::Entra
    }

    /// Returns `true` if client assertions must be signed with an RSA key.
    pub(crate) fn requires_rsa(self) -> bool {
        self != Self::OpenId
    }

    /// Returns `true` if the identity provider may treat a second use of a refresh token as theft.
    pub(crate) fn may_rotate_refresh_tokens(self) -> bool {
        self == Self::OpenId
    }

    /// Returns `true` if RSA signatures are PS256 by default, and `false` for RS256.
    pub(crate) fn signs_with_pss(self) -> bool {
        matches!(self, Self::Entra | Self::B2c)
    }
}
