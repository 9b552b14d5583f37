/// Whose rules hold at an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// External ID included.
    Entra,
    B2c,
    Adfs,
    OpenId,
}

impl Rules {
    /// As it is called in an error.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Entra => "Microsoft Entra ID",
            Self::B2c => "Azure AD B2C",
            Self::Adfs => "AD FS",
            Self::OpenId => "the OpenID provider",
        }
    }

    /// Whether an application asks for a resource's `/.default` and nothing else.
    pub(crate) fn requires_default_scope(self) -> bool {
        self == Self::Entra
    }

    /// Whether assertions have to be signed with an RSA key.
    pub(crate) fn requires_rsa(self) -> bool {
        self != Self::OpenId
    }

    /// Whether RSA signatures are PSS where nobody says otherwise.
    pub(crate) fn signs_with_pss(self) -> bool {
        matches!(self, Self::Entra | Self::B2c)
    }
}
