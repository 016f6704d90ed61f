"""The texts of `explaining`, English and German: title, why, and what to do. Pure data.

Texts may name facts in braces.
"""

from collections.abc import Mapping

Text = tuple[str, str, str]

OUTCOMES = {
    "connected",
    "connected_for",
    "approved",
    "ask_approval",
    "ask_mailbox",
    "ask_mailbox_for",
    "answered",
    "not_wanted",
    "waiting",
}
"""What only a page says, of what went well or goes on; all else is a refusal's `reason`."""

TEXTS: Mapping[str, Mapping[str, Text]] = {
    "connected": {
        "en": (
            "Your mailbox is connected",
            "{address} is now connected with Zalion. E-mails of your cases appear there by themselves.",
            "You can close this page.",
        ),
        "de": (
            "Ihr Postfach ist verbunden",
            "{address} ist jetzt mit Zalion verbunden. E-Mails zu Ihren Fällen erscheinen dort von selbst.",
            "Sie können diese Seite schließen.",
        ),
    },
    "connected_for": {
        "en": (
            "Your mailbox is connected",
            "{address} is now connected with Zalion, as {actor} asked for. E-mails of cases appear there by themselves.",
            "You can close this page. If you did not expect this, ask your IT to disconnect the mailbox in Zalion.",
        ),
        "de": (
            "Ihr Postfach ist verbunden",
            "{address} ist jetzt mit Zalion verbunden; veranlasst hat es {actor}. E-Mails zu Fällen erscheinen dort von selbst.",
            "Sie können diese Seite schließen. Haben Sie das nicht erwartet, lassen Sie das Postfach von Ihrer IT in Zalion trennen.",
        ),
    },
    "approved": {
        "en": (
            "Your organisation has approved Zalion",
            "Zalion may now be used with the mailboxes of your organisation, as far as their users sign in.",
            "Tell your colleagues that they can connect their mailboxes.",
        ),
        "de": (
            "Ihre Organisation hat Zalion freigegeben",
            "Zalion darf jetzt mit den Postfächern Ihrer Organisation arbeiten, sobald deren Benutzer sich anmelden.",
            "Sagen Sie Ihren Kolleginnen und Kollegen, dass sie ihre Postfächer verbinden können.",
        ),
    },
    "ask_approval": {
        "en": (
            "Connect your organisation with Zalion?",
            "{actor} asked for this; you have signed in as {address}. If you agree, {actor}'s organisation at Zalion may connect mailboxes of your directory, as far as their users sign in.",
            "Answer Yes only if you know who asked. With No, nothing is connected.",
        ),
        "de": (
            "Ihre Organisation mit Zalion verbinden?",
            "Veranlasst hat es {actor}; angemeldet haben Sie sich als {address}. Stimmen Sie zu, darf die Organisation von {actor} in Zalion Postfächer Ihres Verzeichnisses verbinden, sobald deren Benutzer sich anmelden.",
            "Antworten Sie nur mit Ja, wenn Sie wissen, wer das ist. Bei Nein wird nichts verbunden.",
        ),
    },
    "ask_mailbox": {
        "en": (
            "Connect the mailbox with Zalion?",
            "{actor} asked that {address} is connected. If you agree, the e-mails of cases in it are shown to the members of these cases in {actor}'s organisation.",
            "Answer Yes only if you know who asked. With No, nothing is connected.",
        ),
        "de": (
            "Das Postfach mit Zalion verbinden?",
            "{actor} möchte, dass {address} verbunden wird. Stimmen Sie zu, sehen die Mitglieder von Fällen in der Organisation von {actor} die E-Mails dieser Fälle.",
            "Antworten Sie nur mit Ja, wenn Sie wissen, wer das ist. Bei Nein wird nichts verbunden.",
        ),
    },
    "ask_mailbox_for": {
        "en": (
            "Connect the mailbox with Zalion?",
            "{actor} asked that {address} is connected for {owner}. If you agree, {owner} may search this mailbox, put any mail of it into a case and send from it; the e-mails of cases are shown to the members of these cases.",
            "Answer Yes only if you want that. With No, nothing is connected.",
        ),
        "de": (
            "Das Postfach mit Zalion verbinden?",
            "{actor} möchte, dass {address} für {owner} verbunden wird. Stimmen Sie zu, darf {owner} dieses Postfach durchsuchen, jede E-Mail daraus in einen Fall legen und daraus senden; die Mitglieder von Fällen sehen deren E-Mails.",
            "Antworten Sie nur mit Ja, wenn Sie das wollen. Bei Nein wird nichts verbunden.",
        ),
    },
    "answered": {
        "en": (
            "Your answer has arrived",
            "It was sent twice; the first one counts.",
            "You can close this page. Zalion shows in a moment what came of it.",
        ),
        "de": (
            "Ihre Antwort ist angekommen",
            "Sie wurde zweimal gesendet; die erste zählt.",
            "Sie können diese Seite schließen. Zalion zeigt gleich, was daraus geworden ist.",
        ),
    },
    "not_wanted": {
        "en": (
            "Nothing was connected",
            "You answered No to what {actor} asked for, and Zalion has forgotten the sign-in.",
            "You can close this page. To take back the permission, too, remove Zalion from the apps of your account or directory.",
        ),
        "de": (
            "Es wurde nichts verbunden",
            "Sie haben die Anfrage von {actor} mit Nein beantwortet; Zalion hat die Anmeldung vergessen.",
            "Sie können diese Seite schließen. Um auch die Erlaubnis zurückzunehmen, entfernen Sie Zalion aus den Apps Ihres Kontos oder Verzeichnisses.",
        ),
    },
    "waiting": {
        "en": (
            "Waiting for Microsoft",
            "The approval was given but has not reached all of Microsoft's servers yet. This can take minutes.",
            "Leave this page open: it tries again by itself.",
        ),
        "de": (
            "Warten auf Microsoft",
            "Die Freigabe ist erteilt, aber noch nicht auf allen Servern von Microsoft angekommen. Das kann Minuten dauern.",
            "Lassen Sie diese Seite offen; der nächste Versuch kommt von selbst.",
        ),
    },
    "approval_needed": {
        "en": (
            "Your administrator has to approve the connection",
            "Microsoft lets only an administrator of your organisation approve Zalion.",
            "Ask your IT for the approval; if it was just given, wait a few minutes and try again.",
        ),
        "de": (
            "Ihre IT muss die Verbindung freigeben",
            "Microsoft lässt Zalion nur von einer Administratorin oder einem Administrator Ihrer Organisation freigeben.",
            "Bitten Sie Ihre IT um die Freigabe; wurde sie gerade erteilt, versuchen Sie es in einigen Minuten noch einmal.",
        ),
    },
    "approval_requested": {
        "en": (
            "The approval was requested",
            "Your request lies with your organisation's administrators.",
            "Try again once they have confirmed it.",
        ),
        "de": (
            "Die Freigabe ist angefragt",
            "Ihre Anfrage liegt bei den Administratoren Ihrer Organisation.",
            "Versuchen Sie es noch einmal, sobald sie bestätigt ist.",
        ),
    },
    "declined": {
        "en": ("The approval was declined", "Somebody pressed Cancel.", "Start again if that was a mistake."),
        "de": (
            "Die Freigabe wurde abgelehnt",
            "Jemand hat auf „Abbrechen“ gedrückt.",
            "Beginnen Sie noch einmal, falls das ein Versehen war.",
        ),
    },
    "no_exchange": {
        "en": (
            "This organisation has no Exchange Online",
            "The directory you signed in to has no subscription with mailboxes at Microsoft 365.",
            "Sign in to the directory that has the mailboxes, or connect them by IMAP or Exchange (EWS).",
        ),
        "de": (
            "Diese Organisation hat kein Exchange Online",
            "Das Verzeichnis, an dem Sie sich angemeldet haben, hat kein Abonnement mit Postfächern bei Microsoft 365.",
            "Melden Sie sich an dem Verzeichnis mit den Postfächern an, oder verbinden Sie sie über IMAP oder Exchange (EWS).",
        ),
    },
    "permissions_missing": {
        "en": (
            "The app registration lacks permissions",
            "The app registration does not list the permissions that Zalion needs.",
            "Add Mail.Read, Mail.Send and offline_access under API permissions, then grant admin consent.",
        ),
        "de": (
            "Der App-Registrierung fehlen Berechtigungen",
            "Die App-Registrierung führt die Berechtigungen nicht auf, die Zalion braucht.",
            "Fügen Sie unter API-Berechtigungen Mail.Read, Mail.Send und offline_access hinzu und erteilen Sie die Administratorzustimmung.",
        ),
    },
    "app_not_found": {
        "en": (
            "The app is not known in this directory",
            "Client ID and tenant ID do not belong together, or the approval is missing.",
            "Compare both IDs with the overview page of the app registration.",
        ),
        "de": (
            "Die App ist in diesem Verzeichnis nicht bekannt",
            "Client-ID und Mandanten-ID gehören nicht zusammen, oder die Freigabe fehlt.",
            "Vergleichen Sie beide IDs mit der Übersichtsseite der App-Registrierung.",
        ),
    },
    "tenant_unknown": {
        "en": (
            "There is no such directory",
            "Microsoft knows no directory with this tenant ID.",
            "Copy the directory (tenant) ID from the overview page of the app registration.",
        ),
        "de": (
            "Dieses Verzeichnis gibt es nicht",
            "Microsoft kennt kein Verzeichnis mit dieser Mandanten-ID.",
            "Übernehmen Sie die Verzeichnis-ID (Mandant) von der Übersichtsseite der App-Registrierung.",
        ),
    },
    "secret_wrong": {
        "en": (
            "The client secret is wrong",
            "Microsoft does not accept the client secret.",
            "Paste the secret's value, not the secret ID; create a new one if the value is no longer shown.",
        ),
        "de": (
            "Der geheime Clientschlüssel ist falsch",
            "Microsoft nimmt den geheimen Clientschlüssel nicht an.",
            "Fügen Sie den Wert ein, nicht die Geheimnis-ID; erstellen Sie einen neuen, wenn der Wert nicht mehr angezeigt wird.",
        ),
    },
    "secret_expired": {
        "en": (
            "The client secret has expired",
            "The client secret of the app registration has expired.",
            "Create a new one and give it to Zalion with its end date.",
        ),
        "de": (
            "Der geheime Clientschlüssel ist abgelaufen",
            "Der geheime Clientschlüssel der App-Registrierung ist abgelaufen.",
            "Erstellen Sie einen neuen und geben Sie ihn mit seinem Ablaufdatum in Zalion ein.",
        ),
    },
    "registration_type": {
        "en": (
            "The app registration has the wrong type",
            "The redirect URI is registered for another kind of app.",
            "Register the redirect URI under the platform Web, and give the client secret.",
        ),
        "de": (
            "Die App-Registrierung hat den falschen Typ",
            "Die Umleitungs-URI ist für eine andere Art von App registriert.",
            "Registrieren Sie die Umleitungs-URI unter der Plattform „Web“, und geben Sie den geheimen Clientschlüssel an.",
        ),
    },
    "certificate_rejected": {
        "en": (
            "The certificate was rejected",
            "The certificate is not registered on the app, does not fit its key, or has expired.",
            "Upload the certificate to the app registration and give Zalion its private key and certificate as PEM.",
        ),
        "de": (
            "Das Zertifikat wurde abgelehnt",
            "Das Zertifikat ist bei der App nicht registriert, passt nicht zu seinem Schlüssel oder ist abgelaufen.",
            "Laden Sie das Zertifikat in die App-Registrierung hoch, und geben Sie Zalion Schlüssel und Zertifikat als PEM.",
        ),
    },
    "app_disabled": {
        "en": (
            "The app was disabled",
            "An administrator has disabled the app in your directory.",
            "Ask your IT to enable it under Enterprise applications.",
        ),
        "de": (
            "Die App wurde deaktiviert",
            "Die App wurde in Ihrem Verzeichnis von der IT deaktiviert.",
            "Bitten Sie Ihre IT, sie unter „Unternehmensanwendungen“ zu aktivieren.",
        ),
    },
    "redirect_uri": {
        "en": (
            "The redirect URI is not registered",
            "The app registration does not know where to send the browser back to.",
            "Register this redirect URI exactly, under the platform Web: {redirect_uri}",
        ),
        "de": (
            "Die Umleitungs-URI ist nicht registriert",
            "Die App-Registrierung weiß nicht, wohin sie den Browser zurückschicken soll.",
            "Registrieren Sie unter der Plattform „Web“ genau diese Umleitungs-URI: {redirect_uri}",
        ),
    },
    "single_tenant": {
        "en": (
            "The app registration belongs to one directory",
            "A single-tenant app was asked for at the common sign-in address.",
            "Give the tenant ID of the directory it is registered in.",
        ),
        "de": (
            "Die App-Registrierung gehört zu einem einzigen Verzeichnis",
            "Eine App für einen einzigen Mandanten wurde über die gemeinsame Anmeldeadresse aufgerufen.",
            "Geben Sie die Mandanten-ID des Verzeichnisses an, in dem sie registriert ist.",
        ),
    },
    "wrong_account": {
        "en": (
            "You signed in with another account",
            "The account you signed in with may not open the mailbox {address}.",
            "Sign in again with the account of this mailbox; a private window helps if another one is chosen.",
        ),
        "de": (
            "Sie haben sich mit einem anderen Konto angemeldet",
            "Das Konto, mit dem Sie sich angemeldet haben, darf das Postfach {address} nicht öffnen.",
            "Melden Sie sich mit dem Konto dieses Postfachs an; ein privates Fenster hilft, wenn ein anderes gewählt wird.",
        ),
    },
    "account_locked": {
        "en": (
            "The account is locked",
            "Microsoft has locked the account, for example after too many attempts.",
            "Try again later, or ask your IT.",
        ),
        "de": (
            "Das Konto ist gesperrt",
            "Microsoft hat das Konto gesperrt, zum Beispiel nach zu vielen Versuchen.",
            "Versuchen Sie es später noch einmal, oder fragen Sie Ihre IT.",
        ),
    },
    "password_expired": {
        "en": (
            "The password has expired",
            "The password of the account has expired.",
            "Change it at Microsoft, then sign in here again.",
        ),
        "de": (
            "Das Passwort ist abgelaufen",
            "Das Passwort des Kontos ist abgelaufen.",
            "Ändern Sie es bei Microsoft, und melden Sie sich dann hier wieder an.",
        ),
    },
    "account_disabled": {
        "en": (
            "The account is disabled",
            "Your organisation has disabled this account, so its mailbox is no longer read.",
            "Ask your IT to enable it again, then connect the mailbox again.",
        ),
        "de": (
            "Das Konto ist deaktiviert",
            "Ihre Organisation hat dieses Konto deaktiviert; sein Postfach wird nicht mehr gelesen.",
            "Bitten Sie Ihre IT, es wieder zu aktivieren, und verbinden Sie das Postfach dann noch einmal.",
        ),
    },
    "second_factor": {
        "en": (
            "Microsoft asks for a second factor",
            "The sign-in needs a second factor, or the last one has expired.",
            "Sign in again and confirm the second factor.",
        ),
        "de": (
            "Microsoft verlangt einen zweiten Faktor",
            "Die Anmeldung braucht einen zweiten Faktor, oder der letzte ist abgelaufen.",
            "Melden Sie sich noch einmal an, und bestätigen Sie den zweiten Faktor.",
        ),
    },
    "not_assigned": {
        "en": (
            "You are not assigned to the app",
            "Your organisation lets only chosen users use Zalion.",
            "Ask your IT to assign you to the app under Enterprise applications, then connect the mailbox again.",
        ),
        "de": (
            "Sie sind der App nicht zugewiesen",
            "Ihre Organisation lässt nur ausgewählte Benutzer mit Zalion arbeiten.",
            "Bitten Sie Ihre IT, Sie der App unter „Unternehmensanwendungen“ zuzuweisen, und verbinden Sie das Postfach dann noch einmal.",
        ),
    },
    "sign_in_again": {
        "en": (
            "Please sign in again",
            "The permission to use the mailbox was withdrawn or has expired, for example by a new password.",
            "Connect the mailbox again. Nothing is lost: everything since then will be filed.",
        ),
        "de": (
            "Bitte melden Sie sich noch einmal an",
            "Die Erlaubnis für das Postfach wurde entzogen oder ist abgelaufen, zum Beispiel durch ein neues Passwort.",
            "Verbinden Sie das Postfach noch einmal. Es geht nichts verloren: Alles seitdem wird abgelegt.",
        ),
    },
    "policy": {
        "en": (
            "Your organisation's policy blocks the sign-in",
            "A rule of your organisation (Conditional Access) does not allow this sign-in.",
            "Ask your administrator: the reason stands in Microsoft's sign-in log{reference}.",
        ),
        "de": (
            "Eine Richtlinie Ihrer Organisation sperrt die Anmeldung",
            "Eine Regel Ihrer Organisation (bedingter Zugriff) lässt diese Anmeldung nicht zu.",
            "Fragen Sie Ihre IT: Der Grund steht im Anmeldeprotokoll von Microsoft{reference}.",
        ),
    },
    "policy_frequency": {
        "en": (
            "Your organisation ends sign-ins after some time",
            "A rule of your organisation asks for a new sign-in at intervals.",
            "Sign in again; ask your IT for an exception, or to let the app itself sign in.",
        ),
        "de": (
            "Ihre Organisation beendet Anmeldungen nach einer Zeit",
            "Eine Regel Ihrer Organisation verlangt in Abständen eine neue Anmeldung.",
            "Melden Sie sich noch einmal an; bitten Sie Ihre IT um eine Ausnahme oder darum, dass die App sich selbst anmeldet.",
        ),
    },
    "already_used": {
        "en": (
            "This link was used before",
            "A sign-in or approval link works once. Perhaps the page was only loaded again.",
            "Look in Zalion whether the connection is there; if not, start again there.",
        ),
        "de": (
            "Dieser Link wurde schon benutzt",
            "Ein Link für Anmeldung oder Freigabe gilt einmal. Vielleicht wurde die Seite nur neu geladen.",
            "Sehen Sie in Zalion nach, ob die Verbindung steht; wenn nicht, beginnen Sie dort von vorn.",
        ),
    },
    "expired": {
        "en": ("This link has expired", "It was open for too long.", "Start again in Zalion."),
        "de": ("Dieser Link ist abgelaufen", "Er war zu lange offen.", "Beginnen Sie in Zalion von vorn."),
    },
    "start_again": {
        "en": (
            "The sign-in could not be finished",
            "What came back from the sign-in does not belong to it.",
            "Start again in Zalion.",
        ),
        "de": (
            "Die Anmeldung konnte nicht abgeschlossen werden",
            "Was von der Anmeldung zurückkam, gehört nicht zu ihr.",
            "Beginnen Sie in Zalion von vorn.",
        ),
    },
    "microsoft_busy": {
        "en": (
            "Microsoft does not answer right now",
            "Microsoft's sign-in service has a temporary problem.",
            "Try again in a few minutes.",
        ),
        "de": (
            "Microsoft antwortet gerade nicht",
            "Der Anmeldedienst von Microsoft hat ein vorübergehendes Problem.",
            "Versuchen Sie es in einigen Minuten noch einmal.",
        ),
    },
    "asked_in_circles": {
        "en": (
            "Microsoft was asked too often",
            "Microsoft's sign-in service was asked for the same thing again and again.",
            "Try again in five minutes.",
        ),
        "de": (
            "Microsoft wurde zu oft gefragt",
            "Der Anmeldedienst von Microsoft wurde immer wieder nach demselben gefragt.",
            "Versuchen Sie es in fünf Minuten noch einmal.",
        ),
    },
    "tenant_taken": {
        "en": (
            "This directory is connected to another organisation",
            "One directory can belong to one organisation in Zalion only.",
            "Ask Zalion's support if it is yours.",
        ),
        "de": (
            "Dieses Verzeichnis ist mit einer anderen Organisation verbunden",
            "Ein Verzeichnis kann in Zalion nur zu einer Organisation gehören.",
            "Wenden Sie sich an den Support von Zalion, wenn es Ihres ist.",
        ),
    },
    "tenant_mismatch": {
        "en": (
            "You signed in to another directory",
            "The directory that was approved is not the one you signed in to.",
            "Follow the approval link again, and sign in with an account of the approved directory.",
        ),
        "de": (
            "Sie haben sich an einem anderen Verzeichnis angemeldet",
            "Das freigegebene Verzeichnis ist nicht das, an dem Sie sich angemeldet haben.",
            "Folgen Sie dem Freigabelink noch einmal, und melden Sie sich mit einem Konto des freigegebenen Verzeichnisses an.",
        ),
    },
    "no_mailbox": {
        "en": (
            "There is no mailbox in Exchange Online",
            "The mailbox is on-premises, has no licence, is inactive or belongs to a guest.",
            "Ask your IT for a mailbox in Exchange Online, then connect it again; or connect it by Exchange (EWS) or IMAP.",
        ),
        "de": (
            "In Exchange Online gibt es dieses Postfach nicht",
            "Das Postfach liegt im eigenen Haus, hat keine Lizenz, ist inaktiv oder gehört einem Gast.",
            "Bitten Sie Ihre IT um ein Postfach in Exchange Online, und verbinden Sie es dann noch einmal; oder verbinden Sie es über Exchange (EWS) oder IMAP.",
        ),
    },
    "access_too_wide": {
        "en": (
            "The app reaches too many mailboxes",
            "The app can read the control mailbox, or send as everybody, which it must not.",
            "Limit it in Exchange (RBAC for Applications) and take back tenant-wide Mail permissions.",
        ),
        "de": (
            "Die App erreicht zu viele Postfächer",
            "Die App kann das Kontrollpostfach lesen oder als jeder senden, was sie nicht darf.",
            "Begrenzen Sie sie in Exchange (RBAC für Anwendungen), und nehmen Sie mandantenweite Mail-Berechtigungen zurück.",
        ),
    },
    "our_app": {
        "en": (
            "Zalion's sign-in at Microsoft does not work right now",
            "Microsoft refuses Zalion's own app. You cannot mend this; our operators have been told.",
            "Try again later.",
        ),
        "de": (
            "Die Anmeldung von Zalion bei Microsoft funktioniert gerade nicht",
            "Microsoft nimmt Zalions eigene App nicht an. Das können Sie nicht beheben; unser Betrieb ist verständigt.",
            "Versuchen Sie es später noch einmal.",
        ),
    },
    "other_directory": {
        "en": (
            "Your organisation is connected with another directory",
            "In Zalion your organisation belongs to one directory, and it is not the one that was approved now.",
            "Use an account of that directory, or disconnect Microsoft 365 in Zalion first.",
        ),
        "de": (
            "Ihre Organisation ist mit einem anderen Verzeichnis verbunden",
            "Ihre Organisation gehört in Zalion zu einem einzigen Verzeichnis, und das ist nicht das jetzt freigegebene.",
            "Nehmen Sie ein Konto jenes Verzeichnisses, oder trennen Sie vorher Microsoft 365 in Zalion.",
        ),
    },
    "disconnected": {
        "en": (
            "The mailbox was disconnected",
            "While you signed in, the mailbox was disconnected in Zalion.",
            "Connect it in Zalion again if you want to use it.",
        ),
        "de": (
            "Das Postfach wurde getrennt",
            "Während Ihrer Anmeldung wurde das Postfach in Zalion getrennt.",
            "Verbinden Sie es in Zalion noch einmal, wenn Sie es nutzen möchten.",
        ),
    },
    "no_access": {
        "en": (
            "Microsoft refuses access to the mailbox",
            "The account or the app may not open this mailbox.",
            "Ask your IT whether the app's permissions and the rights in Exchange include it; a change there can take two hours. Then test the mailbox, or connect it again where its user signed in.",
        ),
        "de": (
            "Microsoft verweigert den Zugriff auf das Postfach",
            "Das Konto oder die App darf dieses Postfach nicht öffnen.",
            "Fragen Sie Ihre IT, ob die Berechtigungen der App und die Rechte in Exchange es umfassen; eine Änderung dort kann zwei Stunden brauchen. Prüfen Sie das Postfach dann, oder verbinden Sie es noch einmal, wenn sich sein Benutzer angemeldet hatte.",
        ),
    },
    "try_later": {
        "en": (
            "That does not work right now",
            "One of the services that take part does not answer.",
            "Start again in Zalion in a few minutes.",
        ),
        "de": (
            "Das geht gerade nicht",
            "Einer der beteiligten Dienste antwortet nicht.",
            "Beginnen Sie in einigen Minuten in Zalion noch einmal.",
        ),
    },
    "partial_consent": {
        "en": (
            "Not all permissions were granted",
            "Zalion needs to read and to send; one of these was not granted.",
            "Start again and accept all permissions, or ask your IT to approve them.",
        ),
        "de": (
            "Nicht alle Berechtigungen wurden erteilt",
            "Zalion muss lesen und senden dürfen; eines davon wurde nicht erteilt.",
            "Beginnen Sie noch einmal und nehmen Sie alle Berechtigungen an, oder bitten Sie Ihre IT um die Freigabe.",
        ),
    },
    "not_approved": {
        "en": (
            "Your IT has not approved this connection",
            "The integration is not approved in Zalion, or no longer.",
            "Ask your administrator to approve it in Zalion.",
        ),
        "de": (
            "Ihre IT hat diese Verbindung nicht freigegeben",
            "Die Integration ist in Zalion nicht oder nicht mehr freigegeben.",
            "Bitten Sie Ihre IT, sie in Zalion freizugeben.",
        ),
    },
    "google_policy": {
        "en": (
            "Your administrator has not allowed Zalion",
            "Your organisation's settings at Google do not let Zalion use Gmail.",
            "Ask your IT to trust Zalion in the Admin console, under Security, API controls, App access control; then connect the mailbox again.",
        ),
        "de": (
            "Ihre IT hat Zalion nicht zugelassen",
            "Die Einstellungen Ihrer Organisation bei Google lassen Zalion nicht auf Gmail zugreifen.",
            "Bitten Sie Ihre IT, Zalion in der Admin-Konsole unter „Sicherheit“, „API-Steuerung“, „App-Zugriffssteuerung“ als vertrauenswürdig einzustufen; verbinden Sie das Postfach dann noch einmal.",
        ),
    },
    "google_internal": {
        "en": (
            "This sign-in is for another organisation",
            "The app may only be used by members of the organisation it belongs to.",
            "Ask Zalion's support: the app has to be open for your organisation.",
        ),
        "de": (
            "Diese Anmeldung ist für eine andere Organisation",
            "Die App darf nur von Mitgliedern der Organisation benutzt werden, der sie gehört.",
            "Wenden Sie sich an den Support von Zalion: Die App muss für Ihre Organisation geöffnet werden.",
        ),
    },
    "google_misconfigured": {
        "en": (
            "Zalion's connection to Google is not set up correctly",
            "Google does not accept Zalion's own app. This is ours to mend.",
            "Tell Zalion's support. Nothing is lost: it goes on by itself afterwards.",
        ),
        "de": (
            "Zalions Verbindung zu Google ist nicht richtig eingerichtet",
            "Google nimmt Zalions eigene App nicht an. Das müssen wir beheben.",
            "Sagen Sie dem Support von Zalion Bescheid. Es geht nichts verloren: Danach geht es von selbst weiter.",
        ),
    },
    "google_busy": {
        "en": (
            "Google does not answer right now",
            "Google's sign-in service has a temporary problem.",
            "Try again in a few minutes.",
        ),
        "de": (
            "Google antwortet gerade nicht",
            "Der Anmeldedienst von Google hat ein vorübergehendes Problem.",
            "Versuchen Sie es in einigen Minuten noch einmal.",
        ),
    },
    "google_boxes": {
        "en": (
            "A permission was not ticked",
            "Zalion needs to read and to send e-mail; Google asks for each with a box of its own, and one was left empty.",
            "Sign in again and tick every box on Google's page.",
        ),
        "de": (
            "Eine Berechtigung wurde nicht angekreuzt",
            "Zalion muss E-Mails lesen und senden dürfen; Google fragt beides mit einem eigenen Kästchen ab, und eines blieb leer.",
            "Melden Sie sich noch einmal an, und kreuzen Sie auf der Seite von Google alle Kästchen an.",
        ),
    },
    "google_no_offline": {
        "en": (
            "Google gave no lasting permission",
            "Google let Zalion in for an hour only, because it believes that you have agreed before.",
            "Remove Zalion at myaccount.google.com/connections, then connect the mailbox again.",
        ),
        "de": (
            "Google hat keine dauerhafte Erlaubnis erteilt",
            "Google lässt Zalion nur eine Stunde lang zu, weil es annimmt, dass Sie schon zugestimmt haben.",
            "Entfernen Sie Zalion unter myaccount.google.com/connections, und verbinden Sie das Postfach dann noch einmal.",
        ),
    },
    "google_session": {
        "en": (
            "Your organisation ends sign-ins after some time",
            "The session control of your organisation at Google asks for a new sign-in at intervals.",
            "Sign in again; ask your IT to exempt trusted apps from Google Cloud session control.",
        ),
        "de": (
            "Ihre Organisation beendet Anmeldungen nach einer Zeit",
            "Die Sitzungssteuerung Ihrer Organisation bei Google verlangt in Abständen eine neue Anmeldung.",
            "Melden Sie sich noch einmal an; bitten Sie Ihre IT, vertrauenswürdige Apps von der Google-Cloud-Sitzungssteuerung auszunehmen.",
        ),
    },
    "google_domain_policy": {
        "en": (
            "Your administrator has switched off Gmail for apps",
            "The settings of your organisation at Google do not allow this use of Gmail.",
            "Ask your IT to allow Gmail for Zalion in the Admin console, under Security, API controls. Then test the mailbox, or connect it again where its user signed in.",
        ),
        "de": (
            "Ihre IT hat Gmail für Apps gesperrt",
            "Die Einstellungen Ihrer Organisation bei Google erlauben diesen Zugriff auf Gmail nicht.",
            "Bitten Sie Ihre IT, Gmail für Zalion in der Admin-Konsole unter „Sicherheit“, „API-Steuerung“ freizugeben. Prüfen Sie das Postfach dann, oder verbinden Sie es noch einmal, wenn sich sein Benutzer angemeldet hatte.",
        ),
    },
    "google_no_mailbox": {
        "en": (
            "This account has no Gmail",
            "Gmail is switched off for this account, or it has no licence.",
            "Ask your IT to switch Gmail on for the account; then test the mailbox, or connect it again where its user signed in. A mailbox that is not at Gmail is connected where it is.",
        ),
        "de": (
            "Dieses Konto hat kein Gmail",
            "Gmail ist für dieses Konto ausgeschaltet, oder es hat keine Lizenz.",
            "Bitten Sie Ihre IT, Gmail für das Konto einzuschalten; prüfen Sie das Postfach dann, oder verbinden Sie es noch einmal, wenn sich sein Benutzer angemeldet hatte. Ein Postfach, das nicht bei Gmail liegt, verbinden Sie dort, wo es liegt.",
        ),
    },
    "google_no_access": {
        "en": (
            "Google refuses access to this mailbox",
            "Zalion may not use this mailbox, or no longer.",
            "Connect the mailbox again; if that does not help, ask your IT.",
        ),
        "de": (
            "Google verweigert den Zugriff auf dieses Postfach",
            "Zalion darf dieses Postfach nicht oder nicht mehr benutzen.",
            "Verbinden Sie das Postfach noch einmal; hilft das nicht, fragen Sie Ihre IT.",
        ),
    },
    "google_delegation": {
        "en": (
            "The domain-wide delegation is missing",
            "Your organisation's Admin console does not name Zalion, or not with these permissions.",
            "Enter client ID {client_id} with the scopes {scopes} in the Admin console (Security, API controls, Domain-wide delegation). It can take up to 24 hours; then test the integration or the mailbox: it goes on with that, or by itself within a day.",
        ),
        "de": (
            "Die domainweite Delegierung fehlt",
            "In der Admin-Konsole Ihrer Organisation steht Zalion nicht oder nicht mit diesen Berechtigungen.",
            "Tragen Sie in der Admin-Konsole („Sicherheit“, „API-Steuerung“, „Domainweite Delegierung“) die Client-ID {client_id} mit den Bereichen {scopes} ein. Das kann bis zu 24 Stunden dauern; prüfen Sie dann die Integration oder das Postfach: Damit geht es weiter, sonst von selbst innerhalb eines Tages.",
        ),
    },
    "google_no_user": {
        "en": (
            "There is no such user at Google",
            "{address} is no user of your organisation, or is suspended.",
            "Correct the address; or ask your IT to activate the user again, then test the mailbox: it goes on with that, or by itself within a day.",
        ),
        "de": (
            "Diesen Benutzer gibt es bei Google nicht",
            "{address} ist kein Benutzer Ihrer Organisation oder ist gesperrt.",
            "Berichtigen Sie die Adresse; oder bitten Sie Ihre IT, den Benutzer wieder zu aktivieren, und prüfen Sie das Postfach dann: Damit geht es weiter, sonst von selbst innerhalb eines Tages.",
        ),
    },
    "google_alias": {
        "en": (
            "The address is an alias of another mailbox",
            "At Google, {address} is no mailbox's own address but an alias of another one, which Zalion leaves alone.",
            "Ask your IT to give the address back, then test the mailbox; or disconnect it and connect the mailbox by its own address.",
        ),
        "de": (
            "Die Adresse ist ein Alias eines anderen Postfachs",
            "{address} ist bei Google nicht die eigene Adresse eines Postfachs, sondern ein Alias eines anderen, das Zalion in Ruhe lässt.",
            "Bitten Sie Ihre IT, die Adresse zurückzugeben, und prüfen Sie das Postfach dann; oder trennen Sie sie und verbinden Sie das Postfach unter seiner eigenen Adresse.",
        ),
    },
    "google_renamed": {
        "en": (
            "The account has another address now",
            "The account's address at Google is not {address} any more.",
            "Connect its new address in Zalion, then disconnect this one; what was filed stays.",
        ),
        "de": (
            "Das Konto hat jetzt eine andere Adresse",
            "Die Adresse des Kontos bei Google ist nicht mehr {address}.",
            "Verbinden Sie seine neue Adresse in Zalion, und trennen Sie dann diese; was abgelegt ist, bleibt.",
        ),
    },
    "google_not_listed": {
        "en": (
            "This mailbox is not on your organisation's list",
            "Zalion uses the delegation only for the mailboxes that your IT has named.",
            "Ask your IT to add the mailbox to the list of the Google integration in Zalion; one that is connected goes on with that.",
        ),
        "de": (
            "Dieses Postfach steht nicht auf der Liste Ihrer Organisation",
            "Zalion benutzt die Delegierung nur für die Postfächer, die Ihre IT genannt hat.",
            "Bitten Sie Ihre IT, das Postfach in Zalion in die Liste der Google-Integration aufzunehmen; ist es verbunden, geht es damit weiter.",
        ),
    },
    "folders_missing": {
        "en": (
            "A chosen folder is missing",
            "Chosen folders cannot be found, or opened, any more: {folders}. Everything else is read as before.",
            "Give them their names back, or choose others (folders, the setting sentFolder) with PATCH /mailboxes/{mailbox}: GET /mailboxes/{mailbox}/folders lists them.",
        ),
        "de": (
            "Ein gewählter Ordner fehlt",
            "Gewählte Ordner lassen sich nicht mehr finden oder öffnen: {folders}. Alles andere wird gelesen wie bisher.",
            "Geben Sie ihnen ihren Namen zurück, oder wählen Sie andere (folders, Einstellung sentFolder) mit PATCH /mailboxes/{mailbox}: GET /mailboxes/{mailbox}/folders zählt sie auf.",
        ),
    },
    "unexpected": {
        "en": (
            "Something unexpected happened",
            "The sign-in ended with an answer that we do not know.",
            "Try again; if it stays, give the correlation ID below to support.",
        ),
        "de": (
            "Etwas Unerwartetes ist geschehen",
            "Die Anmeldung endete mit einer Antwort, die wir nicht kennen.",
            "Versuchen Sie es noch einmal; bleibt es dabei, nennen Sie dem Support die Korrelations-ID unten.",
        ),
    },
}
