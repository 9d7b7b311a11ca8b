"""The prepare stage: conversion of all datasets to one canonical format, with checks."""
