//! A real PKCS#11 module, loaded by the crate cryptoki.

use std::path::Path;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use super::module::{
    CallFailed, FoundObject, KeyFacts, KeyFamily, KeyHandle, ObjectKind, ObjectQuery,
    Pkcs11Mechanism, Pkcs11Module, Pkcs11Session, TokenInfo,
};
use crate::secret::Secret;

/// A module in a shared library, which stays loaded for the life of the process.
pub(super) struct CryptokiModule(Pkcs11);

impl CryptokiModule {
    /// Loads the library. Returns a reason without a full stop if the file is no module.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        Pkcs11::new(path).map(Self).map_err(|error| match error {
            CryptokiError::LibraryLoading(error) => error.to_string(),
            CryptokiError::MissingSymbol(name) => format!("the library has no function {name}"),
            error => failed(Function::GetFunctionList)(error).to_string(),
        })
    }
}

impl Pkcs11Module for CryptokiModule {
    fn initialize(&self) -> Result<(), CallFailed> {
        let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
        match self.0.initialize(arguments) {
            // Another user of the module in this process was first.
            Err(CryptokiError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
            result => result.map_err(failed(Function::Initialize)),
        }
    }

    fn finalize(&self) -> Result<(), CallFailed> {
        self.0
            .clone()
            .finalize()
            .map_err(failed(Function::Finalize))
    }

    fn slots(&self) -> Result<Vec<u64>, CallFailed> {
        let slots = self.0.get_slots_with_token();
        let slots = slots.map_err(failed(Function::GetSlotList))?;
        Ok(slots.iter().map(Slot::id).collect())
    }

    fn token_info(&self, slot: u64) -> Result<TokenInfo, CallFailed> {
        let call = failed(Function::GetTokenInfo);
        let info = Slot::try_from(slot).and_then(|slot| self.0.get_token_info(slot));
        let info = info.map_err(call)?;
        Ok(TokenInfo {
            manufacturer: info.manufacturer_id().to_owned(),
            model: info.model().to_owned(),
            label: info.label().trim_end().to_owned(),
            serial_number: info.serial_number().trim_end().to_owned(),
            is_initialized: info.token_initialized(),
            needs_login: info.login_required(),
            is_pin_locked: info.user_pin_locked(),
        })
    }

    fn mechanisms(&self, slot: u64) -> Result<Vec<Pkcs11Mechanism>, CallFailed> {
        let call = failed(Function::GetMechanismList);
        let types = Slot::try_from(slot).and_then(|slot| self.0.get_mechanism_list(slot));
        let types = types.map_err(call)?;
        let known = types.into_iter().filter_map(|mechanism| match mechanism {
            MechanismType::SHA256_RSA_PKCS_PSS => Some(Pkcs11Mechanism::Sha256RsaPss),
            MechanismType::RSA_PKCS_PSS => Some(Pkcs11Mechanism::RsaPss),
            MechanismType::SHA256_RSA_PKCS => Some(Pkcs11Mechanism::Sha256RsaPkcs),
            MechanismType::RSA_PKCS => Some(Pkcs11Mechanism::RsaPkcs),
            MechanismType::ECDSA => Some(Pkcs11Mechanism::Ecdsa),
            _ => None,
        });
        Ok(known.collect())
    }

    fn open_session(&self, slot: u64) -> Result<Box<dyn Pkcs11Session>, CallFailed> {
        let call = failed(Function::OpenSession);
        // A session that closes itself would log the text of a failed close.
        let session = Slot::try_from(slot).and_then(|slot| self.0.open_ro_session_no_drop(slot));
        Ok(Box::new(CryptokiSession(session.map_err(call)?)))
    }
}

struct CryptokiSession(Session);

impl Pkcs11Session for CryptokiSession {
    fn is_logged_in(&self) -> Result<bool, CallFailed> {
        let info = self.0.get_session_info();
        let state = info
            .map_err(failed(Function::GetSessionInfo))?
            .session_state();
        Ok(matches!(state, SessionState::RoUser | SessionState::RwUser))
    }

    fn login(&self, pin: &Secret) -> Result<(), CallFailed> {
        let pin = AuthPin::new(pin.expose().into());
        let login = self.0.login(UserType::User, Some(&pin));
        login.map_err(failed(Function::Login))
    }

    fn find(&self, query: &ObjectQuery) -> Result<Vec<FoundObject>, CallFailed> {
        let class = match query.kind {
            ObjectKind::PrivateKey => ObjectClass::PRIVATE_KEY,
            ObjectKind::Certificate => ObjectClass::CERTIFICATE,
        };
        let mut template = vec![Attribute::Class(class)];
        template.extend(
            query
                .label
                .as_ref()
                .map(|label| Attribute::Label(label.clone().into_bytes())),
        );
        template.extend(query.id.clone().map(Attribute::Id));
        let handles = self
            .0
            .find_objects(&template)
            .map_err(failed(Function::FindObjects))?;
        let objects = handles
            .into_iter()
            .map(|handle| self.object(query.kind, handle));
        objects.collect()
    }

    fn sign(
        &self,
        mechanism: Pkcs11Mechanism,
        key: KeyHandle,
        data: &[u8],
    ) -> Result<Vec<u8>, CallFailed> {
        let key = key.of_module().ok_or(CallFailed {
            function: Function::SignInit,
            code: Some(RvError::KeyHandleInvalid),
        })?;
        let pss = PkcsPssParams {
            hash_alg: MechanismType::SHA256,
            mgf: PkcsMgfType::MGF1_SHA256,
            s_len: 32.into(),
        };
        let mechanism = match mechanism {
            Pkcs11Mechanism::Sha256RsaPss => Mechanism::Sha256RsaPkcsPss(pss),
            Pkcs11Mechanism::RsaPss => Mechanism::RsaPkcsPss(pss),
            Pkcs11Mechanism::Sha256RsaPkcs => Mechanism::Sha256RsaPkcs,
            Pkcs11Mechanism::RsaPkcs => Mechanism::RsaPkcs,
            Pkcs11Mechanism::Ecdsa => Mechanism::Ecdsa,
        };
        self.0
            .sign(&mechanism, key, data)
            .map_err(failed(Function::Sign))
    }

    fn close(self: Box<Self>) {
        // The session may be gone with its token.
        let _ = self.0.close();
    }
}

impl CryptokiSession {
    fn object(&self, kind: ObjectKind, handle: ObjectHandle) -> Result<FoundObject, CallFailed> {
        let names: &[AttributeType] = match kind {
            ObjectKind::PrivateKey => &[
                AttributeType::Label,
                AttributeType::Id,
                AttributeType::KeyType,
                AttributeType::Sign,
                AttributeType::AlwaysAuthenticate,
                AttributeType::Modulus,
                AttributeType::EcParams,
            ],
            ObjectKind::Certificate => &[
                AttributeType::Label,
                AttributeType::Id,
                AttributeType::Value,
            ],
        };
        let attributes = self.0.get_attributes(handle, names);
        let attributes = attributes.map_err(failed(Function::GetAttributeValue))?;
        let mut found = FoundObject {
            handle: KeyHandle::Module(handle),
            label: String::new(),
            id: Vec::new(),
            value: Vec::new(),
            key: KeyFacts {
                family: KeyFamily::Other,
                modulus: None,
                curve: None,
                // A token that does not return the attribute finds out at the first signature.
                can_sign: true,
                always_authenticate: false,
            },
        };
        for attribute in attributes {
            match attribute {
                Attribute::Label(label) => {
                    found.label = String::from_utf8_lossy(&label).into_owned();
                }
                Attribute::Id(id) => found.id = id,
                Attribute::Value(value) => found.value = value,
                Attribute::KeyType(KeyType::RSA) => found.key.family = KeyFamily::Rsa,
                Attribute::KeyType(KeyType::EC) => found.key.family = KeyFamily::EllipticCurve,
                Attribute::KeyType(KeyType::EC_EDWARDS) => found.key.family = KeyFamily::Edwards,
                Attribute::Sign(can_sign) => found.key.can_sign = can_sign,
                Attribute::AlwaysAuthenticate(always) => found.key.always_authenticate = always,
                Attribute::Modulus(modulus) if !modulus.is_empty() => {
                    found.key.modulus = Some(modulus);
                }
                Attribute::EcParams(curve) if !curve.is_empty() => found.key.curve = Some(curve),
                _ => {}
            }
        }
        Ok(found)
    }
}

/// Returns a conversion of cryptoki's error. An error of the module names the function itself.
fn failed(function: Function) -> impl Fn(CryptokiError) -> CallFailed {
    move |error| match error {
        CryptokiError::Pkcs11(code, function) => CallFailed {
            function,
            code: Some(code),
        },
        _ => CallFailed {
            function,
            code: None,
        },
    }
}
