"""What people said in eight languages, how it is remembered, how it is asked for, and statements that only look the same."""

from __future__ import annotations

import msgspec

__all__ = ["LANGUAGES", "Told"]


class Told(msgspec.Struct, frozen=True):
    """A sentence of a session, its memory, `asked`: questions that find it, and `others`: facts of nearly the same words."""

    language: str
    said: str
    title: str
    body: str
    asked: tuple[str, ...]
    others: tuple[str, ...]
    named: str
    """What the file's name says of the title."""


LANGUAGES = (
    Told(
        "Chinese",
        "购物车数据放在Redis里,保存14天,过期以后不再恢复。",
        "购物车数据保存在Redis中",
        "购物车数据保存14天,过期以后不再恢复。",
        ("购物车", "过期的数据能恢复吗?", "redis", "车"),
        ("购物车数据保存30天,过期以后不再恢复。", "购物车数据保存14天,过期以后再恢复。"),
        "购物车数据保存在redis中",
    ),
    Told(
        "Japanese",
        "決済の再試行は3回まで。カード番号はログに残さないこと。",
        "決済の再試行は3回まで",
        "決済の再試行は3回までとし、カード番号はログに残さない。",
        ("再試行の回数", "カード番号", "ｶｰﾄﾞ", "決済"),
        (
            "決済の再試行は5回までとし、カード番号はログに残さない。",
            "決済の再試行は3回までとし、カード番号はログに残す。",
        ),
        "決済の再試行は3回まで",
    ),
    Told(
        "Korean",
        "배포는 평일 오전에만 합니다. 금요일 오후에는 배포하지 않습니다.",
        "배포는 평일 오전에만 한다",
        "배포는 평일 오전 두 번만 하고 금요일 오후에는 배포하지 않는다.",
        ("금요일에 배포해도 되나요?", "평일", "오전에는"),
        (
            "배포는 평일 오전 세 번만 하고 금요일 오후에는 배포하지 않는다.",
            "배포는 평일 오전 두 번만 하고 금요일 오후에는 배포한다.",
        ),
        "배포는-평일-오전에만-한다",
    ),
    Told(
        "Thai",
        "ห้ามล็อกแถวในตารางคำสั่งซื้อระหว่างเรียกระบบชำระเงิน",
        "การล็อกแถวในตารางคำสั่งซื้อ",
        "ห้ามล็อกแถวในตารางคำสั่งซื้อระหว่างเรียกระบบชำระเงิน รอได้สองวินาที",
        ("ตารางคำสั่งซื้อ", "ระบบชำระเงิน", "ล็อกแถวได้ไหม"),
        (
            "ล็อกแถวในตารางคำสั่งซื้อระหว่างเรียกระบบชำระเงิน รอได้สองวินาที",
            "ห้ามล็อกแถวในตารางคำสั่งซื้อระหว่างเรียกระบบชำระเงิน รอได้สามวินาที",
        ),
        "การล็อกแถวในตารางคำสั่งซื้อ",
    ),
    Told(
        "Arabic",
        "نُخزِّن النُّسَخ الاحتياطية في الخادم الثاني لمدة ١٤ يوما ولا نحذفها يدويا.",
        "النسخ الاحتياطية في الخادم الثاني",
        "النسخ الاحتياطية تبقى ١٤ يوما في الخادم الثاني ولا نحذفها يدويا.",
        ("نسخ إحتياطية", "خادم", "كم يوما تبقى النُّسَخُ؟", "14"),
        (
            "النسخ الاحتياطية تبقى ٣٠ يوما في الخادم الثاني ولا نحذفها يدويا.",
            "النسخ الاحتياطية تبقى ١٤ يوما في الخادم الثاني ونحذفها يدويا.",
        ),
        "النسخ-الاحتياطية-في-الخادم-الثاني",
    ),
    Told(
        "Russian",
        "Резервные копии храним ещё четырнадцать дней, вручную их не удаляем.",
        "Резервные копии храним ещё две недели",
        "Резервные копии баз данных храним ещё две недели и не удаляем вручную.",
        ("резервной копии", "база данных", "еще", "неделя"),
        (
            "Резервные копии баз данных храним ещё три недели и не удаляем вручную.",
            "Резервные копии баз данных храним ещё две недели и удаляем вручную.",
        ),
        "резервные-копии-храним-ещё-две-недели",
    ),
    Told(
        "German",
        "Die Schlüssel für den Zahlungsdienst werden alle zwei Wochen getauscht und nicht im Quelltext abgelegt.",
        "Schlüssel für den Zahlungsdienst tauschen",
        "Die Schlüssel für den Zahlungsdienst werden alle zwei Wochen getauscht und nicht im Quelltext abgelegt.",
        ("Schluessel", "Schlüssel", "SCHLÜSSELN", "Zahlung"),
        (
            "Die Schlüssel für den Zahlungsdienst werden alle drei Wochen getauscht und nicht im Quelltext abgelegt.",
            "Die Schlüssel für den Zahlungsdienst werden alle zwei Wochen getauscht und im Quelltext abgelegt.",
        ),
        "schlüssel-für-den-zahlungsdienst-tauschen",
    ),
    Told(
        "French",
        "On n'écrit jamais les mots de passe dans les journaux, même pendant deux minutes de débogage.",
        "Pas de mots de passe dans les journaux",
        "On n'écrit jamais les mots de passe dans les journaux, même pendant deux minutes de débogage.",
        ("debogage", "écrire des journaux", "Mots de passe"),
        (
            "On n'écrit jamais les mots de passe dans les journaux, même pendant trois minutes de débogage.",
            "On écrit les mots de passe dans les journaux, même pendant deux minutes de débogage.",
        ),
        "pas-de-mots-de-passe-dans-les-journaux",
    ),
)
